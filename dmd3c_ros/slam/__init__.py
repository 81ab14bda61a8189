"""Feeding SLAM systems; none of them is imported here."""
