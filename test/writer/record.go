package writer

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// numberDigits is the width of a record's number; lines are longest with maxLine.
const (
	numberDigits = 12
	maxLine      = 4096
)

// ErrTorn says that the ledger ends within a record.
var ErrTorn = errors.New("the last record is torn")

// Option changes what [Verify] accepts.
type Option int

// AllowTorn accepts a ledger that ends within a record: what a crash may leave.
const AllowTorn Option = 1

// record returns the line of record n: its number, the CRC-32C of number and
// payload, and a payload that depends on the number.
func record(n int64) string {
	number := fmt.Sprintf("%0*d", numberDigits, n)
	payload := fmt.Sprintf("account %04d receives %d", n*7919%10000, n*104729%1000003)
	return number + " " + checksum(number, payload) + " " + payload + "\n"
}

func checksum(number, payload string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(number+" "+payload), castagnoli))
}

// Verify reads a ledger and returns the number of its last whole record and how
// many whole records it has. It fails at the first record that is missing, out of
// order or damaged: records count from 1 without a gap, so last equals n unless
// there is an error.
func Verify(r io.Reader, opts ...Option) (last, n int64, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return last, n, nil
		case errors.Is(err, io.EOF):
			if slices.Contains(opts, AllowTorn) {
				return last, n, nil
			}
			return last, n, fmt.Errorf("after record %d: %w", last, ErrTorn)
		case err != nil:
			return last, n, fmt.Errorf("read after record %d: %w", last, err)
		}
		number, err := parse(string(line))
		if err != nil {
			return last, n, fmt.Errorf("after record %d: %w", last, err)
		}
		if number != last+1 {
			return last, n, fmt.Errorf("record %d follows record %d", number, last)
		}
		last, n = number, n+1
	}
}

// parse checks one line, with its end, and returns the record's number.
func parse(line string) (int64, error) {
	fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
	if len(fields) != 3 || len(fields[0]) != numberDigits {
		return 0, fmt.Errorf("%.60q is not a record", line)
	}
	number, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.60q is not a record", line)
	}
	if checksum(fields[0], fields[2]) != fields[1] {
		return 0, fmt.Errorf("record %d is damaged: %.60q", number, line)
	}
	return number, nil
}
