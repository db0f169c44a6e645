"""byways.experiments"""
