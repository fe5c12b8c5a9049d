"""What a run found, as JSON, a page, tables and figures."""
