// Package config reads HCL: the fleet files of an operator, and the files of the
// daemons. It turns text into typed values with every default filled in, and
// wrong text into diagnostics with file, line, the offending text and what to
// write instead, all of them at once.
//
// It owns the names of blocks and attributes, units, references and defaults. It
// opens nothing but the files it is given (and those that file() names), and it
// knows neither the bus nor the cloud: whether an instance type or a disk exists is
// found out by those who use it.
//
// Attributes are decoded over a complete default value, so that a default stands in
// one place: the Default functions.
package config
