package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"livego/internal/ops/textfile"
)

const (
	// credentialsEnv names the directory of systemd credentials (LoadCredential= in
	// systemd.exec(5)): each file has the name of a setting.
	credentialsEnv = "CREDENTIALS_DIRECTORY"
	// maxSecretFile is the maximum size of a file with a secret, in bytes.
	maxSecretFile = 16 << 10
)

// fileEnv returns the environment variable that names a file with the value of f.
func (f *field) fileEnv() string { return f.Env + "_FILE" }

// exposesSecret reports whether text, a value of f, is or contains a secret.
func (f *field) exposesSecret(text string) bool {
	if f.secret == secretURL {
		return strings.ContainsAny(text, "@?") // a password, or a query that may contain a token
	}
	return f.secret != "" && text != ""
}

// readSecretFiles adds the secrets in files to env: files has paths by key, credentials is the
// directory of systemd credentials or "". A variable with the value takes precedence over a
// credential; together with a variable that names a file it is an error.
func (l *loader) readSecretFiles(env map[string]value, files map[string]string, credentials string) {
	for i := range l.fields {
		f := &l.fields[i]
		if f.secret == "" {
			continue
		}
		path, named := files[f.Key]
		place := f.fileEnv() + ": "
		if env[f.Key].text != "" {
			if named {
				l.fail(place, "%s is set too: set one of them", f.Env)
			}
			continue
		}
		if !named {
			if credentials == "" {
				continue
			}
			path = filepath.Join(credentials, f.Key)
			place = path + ": "
		}
		text, err := readSecret(path)
		switch {
		case err == nil:
			env[f.Key] = value{text, place}
		case named || !errors.Is(err, fs.ErrNotExist):
			l.fail(place, "%w", err)
		}
	}
}

// readSecret returns the only line of a file. No error contains it.
func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxSecretFile {
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxSecretFile)
	}
	if data, err = textfile.Decode(data); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case text == "":
		return "", fmt.Errorf("%s is empty", path)
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("%s has more than one line", path)
	}
	return text, nil
}
