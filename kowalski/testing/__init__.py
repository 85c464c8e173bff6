"""What tests need, ours and those of others: real servers on free ports, simulated alerts, a stand-in for SkyPortal."""
