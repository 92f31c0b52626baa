"""The tree, built without a model: topic -> concept -> fact, by a background job, and how it is shown."""
