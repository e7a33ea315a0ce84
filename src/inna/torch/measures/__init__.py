"""What is measured on all parameters together before a step."""
