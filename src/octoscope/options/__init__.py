"""Options and their files: words and YAML to checked values; nothing that they name is imported."""
