"""What samples are drawn for: averages, mean forces, and their derivatives, with errors."""
