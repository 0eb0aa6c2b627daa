"""Methods that ask only what lies above the target layer."""
