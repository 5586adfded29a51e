package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"livego/internal/domain"
	"livego/internal/ops/textfile"
)

// AdminTokenFile is the name of the file in the data directory that holds the admin token.
const AdminTokenFile = "admin.token"

func loadAdminToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createAdminToken(path)
	}
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
func createAdminToken(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), AdminTokenFile+".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }() // a no-op after the rename
	token := domain.NewSecret()
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return token, os.Rename(f.Name(), path)
}
