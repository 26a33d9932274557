"""What stands in a notebook."""

import json
from pathlib import Path
from typing import Any


def cells(path: Path) -> list[dict[str, Any]]:
    """A notebook's cells, each with its source as one text and its tags."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])} for cell in found]
