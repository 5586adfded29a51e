package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"livego/internal/domain"
	"livego/internal/ops/atomicfile"
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

// createAdminToken creates a token and its file.
func createAdminToken(dir string) (string, error) {
	token := domain.NewSecret()
	return token, atomicfile.Write(filepath.Join(dir, adminTokenFile), []byte(token+"\n"))
}
