package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"livego/internal/domain"
	"livego/internal/ops/textfile"
)

// adminTokenFile is the name of the file in the data directory that holds the admin token.
const adminTokenFile = "admin.token"

// ReadAdminToken returns the admin token in the data directory dir.
func ReadAdminToken(dir string) (string, error) {
	path := filepath.Join(dir, adminTokenFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if data, err = textfile.Decode(data); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	token := strings.TrimSpace(string(data))
	if !domain.LooksLikeKey(token) {
		return "", fmt.Errorf("%s does not contain %d letters and digits: remove it, and livego creates a new one", path,
			domain.KeyLength)
	}
	return token, nil
}

// createAdminToken writes a new token to a temporary file and renames it, so that a crash cannot
// leave a partial token.
func createAdminToken(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, adminTokenFile+".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }() // a no-op after the rename
	token := domain.NewSecret()
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return token, os.Rename(f.Name(), filepath.Join(dir, adminTokenFile))
}
