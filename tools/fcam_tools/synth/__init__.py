"""Made-up data sets with exact masks: surfaces, defects, products."""
