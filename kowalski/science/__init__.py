"""Pure functions without input or output: positions, stamps, photometry, light curves, galaxy matches."""
