"""From runs to tables, and tables to text: Markdown, LaTeX, CSV and the terminal."""
