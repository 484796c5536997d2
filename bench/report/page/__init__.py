"""One HTML page with tables, charts, pictures, shapes and sounds."""
