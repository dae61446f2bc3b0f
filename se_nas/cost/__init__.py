"""What a network costs: counted in closed form, predicted from measured tables, measured on the network."""
