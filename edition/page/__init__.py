"""What a chapter calls: its parameters and results, findings, verdicts, lists."""
