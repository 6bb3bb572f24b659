"""How far samples may be trusted."""
