package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// FormatFile brings a file of HCL into the usual form, and says whether it was not. It writes
// only when told to: the whole file or nothing. A file that cannot be parsed is left alone, and
// what is wrong with it comes back as [*Errors].
func FormatFile(name string, write bool) (differs bool, err error) {
	if err := fits([]string{name}); err != nil {
		return false, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("format: %w", err)
	}
	parser := hclparse.NewParser()
	_, diags := parser.ParseHCL(text, name)
	if err := asError(diags, parser.Files()); err != nil {
		return false, err
	}
	formatted := hclwrite.Format(text)
	if bytes.Equal(text, formatted) || !write {
		return !bytes.Equal(text, formatted), nil
	}
	return true, replaceFile(name, formatted)
}

// replaceFile writes a file anew with the mode that it has.
func replaceFile(name string, text []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("format: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".fmt-*")
	if err != nil {
		return fmt.Errorf("format %s: %w", name, err)
	}
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Chmod(info.Mode().Perm()), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("format %s: %w", name, errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}
