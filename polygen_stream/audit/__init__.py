"""Audits of the micro models: do pictures show their captions, and do captions keep to the grammar?"""
