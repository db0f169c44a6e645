"""byways.datasets"""
