"""The parts of pools that decide something: frames, pacing, dealing, vacancies, the warden."""
