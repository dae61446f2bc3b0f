"""What a pilot tells before anything is compared: noise of trainings, spread of networks, seeds that it takes."""
