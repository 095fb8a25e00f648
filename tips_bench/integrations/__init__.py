"""Other projects: OpenMMLab, exports, launchers."""
