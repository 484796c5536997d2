"""From runs to tables, and from tables to Markdown, LaTeX, CSV and the terminal."""
