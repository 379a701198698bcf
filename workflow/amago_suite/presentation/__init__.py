"""How results look: tables as Markdown and LaTeX, figures, and the parts of the report's page."""
