"""Learning by trial and reward, in an environment of skills."""
