"""byways.routing"""
