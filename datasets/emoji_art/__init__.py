"""The `emoji_art` data set: its sources, builder, licences and shipped records."""
