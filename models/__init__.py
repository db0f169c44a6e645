"""byways.models"""
