"""What is: frozen records of the machine and its services, each read by one collector, without judgement."""
