"""Whether a model looks at something beside the retina: one file per shortcut probe."""
