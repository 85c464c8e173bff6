"""SkyPortal, where what passes users' filters goes: its client, the calls that make up a delivery, and the courier."""
