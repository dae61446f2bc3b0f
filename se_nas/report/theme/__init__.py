"""The look that pages and plots share: colours, and numbers in words."""
