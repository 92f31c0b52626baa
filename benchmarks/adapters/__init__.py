"""What the framework adapters cost, beside the bare engine and beside the frameworks' own stores."""
