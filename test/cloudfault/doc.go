// Package cloudfault takes a whole migration through a cloud that throttles, fails and loses answers.
package cloudfault
