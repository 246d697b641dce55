"""What the rows say: tables, figures, the verdict, the page."""
