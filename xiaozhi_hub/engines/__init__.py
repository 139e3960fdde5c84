"""What transforms sound and text: contracts, and the engines that integrations contributed."""
