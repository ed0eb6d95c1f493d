-- The databases that deploy/mpr.yaml names. `mpr db migrate` makes their tables.
CREATE DATABASE control;
CREATE DATABASE identity;
CREATE DATABASE us01;
CREATE DATABASE us02;
CREATE DATABASE eu01;
