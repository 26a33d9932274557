"""How this book is made from `samlib`: records of runs, verdicts on claims, figures, pages."""
