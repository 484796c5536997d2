"""One HTML page with tables, charts, pictures and sounds."""
