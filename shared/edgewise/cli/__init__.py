"""The `edgewise` command."""
