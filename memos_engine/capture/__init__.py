"""What was said becomes values: sessions, people, absolute times, drafts of derived memories.

The modules here are pure: they know no disk, no model, and no other stage.
"""
