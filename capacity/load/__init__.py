"""Read exports and inventories: one format a file, READERS in one place."""
