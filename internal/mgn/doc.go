// Package mgn translates the CSV inventory of AWS Application Migration Service into a fleet's
// configuration, and back. The columns are those of MGN's user guide, "Importing your data
// inventory"; docs/from-mgn.md says where the value of each has its place.
//
// It decides nothing for the operator: what has no place in our configuration comes back as a
// note, and what is wrong as an error with its line, all of them at once.
package mgn
