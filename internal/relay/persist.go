package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"livego/internal/domain"
	"livego/internal/ops/atomicfile"
)

// A savedRelay is a relay in Options.File. Its URL may hold secrets.
type savedRelay struct {
	ID        string `json:"id"`
	Direction string `json:"direction"`
	App       string `json:"app"`
	Room      string `json:"room"`
	URL       string `json:"url"`
}

type savedRelays struct {
	Relays []savedRelay `json:"relays"`
}

// maxFile limits the size of Options.File in bytes.
const maxFile = 64 << 20

// newID returns the ID of a relay. It must not depend on the URL: a short key could be guessed.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// Create starts relay w, unless it exists, and returns its status. With persist it starts again with
// the next Manager. It first connects to the remote server once, for some seconds at most; the
// status then has the error. Errors have kind Invalid, Denied (the address is forbidden), Conflict
// (static_push has this relay, or it was deleted meanwhile), Limit or Unavailable.
func (m *Manager) Create(ctx context.Context, w domain.Relay, persist bool) (s domain.RelayStatus, created bool,
	err error) {
	to, err := parseTarget(w.Direction, w.URL, false)
	if err != nil {
		return s, false, err
	}
	m.mu.Lock()
	if old := m.relays[w]; old != nil {
		return m.keep(old, persist)
	}
	r, dialCtx, err := m.add(ctx, w, to, nil)
	m.mu.Unlock()
	if err != nil {
		return s, false, err
	}
	defer r.cancel() // of the probe; launch replaces it
	dialErr := m.probe(dialCtx, to)
	if domain.KindOf(dialErr) == domain.Denied {
		m.unregister(r)
		return s, false, errors.Join(dialErr, m.save())
	}
	if dialErr != nil && dialCtx.Err() == nil {
		m.recordFailure(r, dialErr)
	}
	m.mu.Lock()
	m.setPersist(r, persist)
	m.mu.Unlock()
	if persist { // the others need no disk
		if err := m.save(); err != nil {
			m.unregister(r)
			return s, false, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.relays[w] != r || m.closed {
		return s, false, errStopped
	}
	s = r.status
	s.Since = s.Since.UTC()
	m.launch(r)
	return s, true, nil
}

// keep is Create for a relay that exists. The caller holds m.mu, which keep unlocks.
func (m *Manager) keep(r *relay, persist bool) (s domain.RelayStatus, created bool, err error) {
	if r.live != nil {
		m.mu.Unlock()
		return s, false, domain.Errorf(domain.Conflict, "static_push of app %q pushes the stream there", r.Name.App)
	}
	m.setPersist(r, persist)
	m.mu.Unlock()
	if persist {
		err = m.save()
	}
	return m.statusOf(r), false, err
}

// setPersist makes r persist if persist is true. The caller holds m.mu and must call save.
func (m *Manager) setPersist(r *relay, persist bool) {
	if persist && m.options().File != "" && !r.status.Persist && m.relays[r.Relay] == r {
		r.status.Persist = true
		m.version++
	}
}

// Get returns the relay with this ID. It returns NotFound if there is none.
func (m *Manager) Get(id string) (domain.RelayStatus, error) {
	m.mu.Lock()
	r := m.find(id)
	m.mu.Unlock()
	if r == nil {
		return domain.RelayStatus{}, errNoRelay
	}
	return m.statusOf(r), nil
}

// find returns the relay with this ID, nil if there is none. The caller holds m.mu.
func (m *Manager) find(id string) *relay {
	for _, r := range m.relays {
		if r.status.ID == id {
			return r
		}
	}
	return nil
}

// Delete stops the relay with this ID and ends its stream on the remote server. Errors have kind
// NotFound, Conflict (it is from Options.Static) or Unavailable (the file cannot be written: the
// relay then continues).
func (m *Manager) Delete(id string) error {
	m.mu.Lock()
	r := m.find(id)
	static := r != nil && r.live != nil
	m.mu.Unlock()
	switch {
	case r == nil:
		return errNoRelay
	case static:
		return domain.Errorf(domain.Conflict, "the relay is from static_push of app %q: remove it from the settings",
			r.Name.App)
	}
	return m.discard(r)
}

// discard stops and unregisters r, also in the file. If the file cannot be written, it leaves r as it
// is.
func (m *Manager) discard(r *relay) error {
	registered := m.unregister(r)
	m.mu.Lock()
	persist := r.status.Persist
	m.mu.Unlock()
	var err error
	if persist { // the others need no disk
		err = m.save()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && registered && m.relays[r.Relay] == nil {
		m.relays[r.Relay] = r
		return err
	}
	r.cancel()
	return nil
}

// unregister removes r from the list, which must then be saved. It returns false if it is not in it.
func (m *Manager) unregister(r *relay) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.relays[r.Relay] != r {
		return false
	}
	delete(m.relays, r.Relay)
	if r.status.Persist {
		m.version++
	}
	return true
}

// save writes the persistent relays to the file, unless it has them. Concurrent calls share a write.
func (m *Manager) save() error {
	m.saving <- struct{}{}
	defer func() { <-m.saving }()
	m.mu.Lock()
	version, saved := m.version, m.savedVersion
	var list savedRelays
	if version != saved {
		for _, r := range m.relays {
			if r.status.Persist {
				list.Relays = append(list.Relays, savedRelay{r.status.ID, r.Direction, r.Name.App, r.Name.Room, r.URL})
			}
		}
	}
	m.mu.Unlock()
	if version == saved {
		return nil
	}
	slices.SortFunc(list.Relays, func(a, b savedRelay) int { return strings.Compare(a.ID, b.ID) })
	data, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = atomicfile.Write(m.options().File, append(data, '\n'))
	}
	if err != nil {
		m.options().Log.Error("cannot store the relays", "err", err)
		return domain.Errorf(domain.Unavailable, "the relays cannot be stored in data_dir")
	}
	m.mu.Lock()
	m.savedVersion = version
	m.mu.Unlock()
	return nil
}

// restore registers the relays in the file. Run starts them.
func (m *Manager) restore() error {
	if m.options().File == "" {
		return nil
	}
	list, err := readFile(m.options().File)
	if err != nil {
		return fmt.Errorf("relays of earlier runs: %s: %w: repair or remove the file", filepath.Base(m.options().File), err)
	}
	for _, saved := range list {
		w := domain.Relay{Direction: saved.Direction, Name: domain.Name{App: saved.App, Room: saved.Room}, URL: saved.URL}
		to, err := parseTarget(w.Direction, w.URL, false)
		if err != nil {
			to = &target{u: new(url.URL), redacted: redactedPart, invalid: err}
		}
		r, _ := m.newRelay(context.Background(), w, to, nil)
		r.status.ID, r.status.Persist, m.relays[w] = saved.ID, true, r
		m.restored = append(m.restored, r)
	}
	return nil
}

// readFile returns the relays in a file, none if it does not exist.
func readFile(path string) ([]savedRelay, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Size() > maxFile:
		return nil, errors.New("the file is too large")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list savedRelays
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&list) != nil {
		return nil, errors.New("not a list of relays in JSON")
	}
	for _, r := range list.Relays {
		if _, err := domain.ParseName(r.App, r.Room); err != nil || r.ID == "" ||
			r.Direction != domain.Push && r.Direction != domain.Pull {
			return nil, errors.New("a relay in it is invalid")
		}
	}
	return list.Relays, nil
}

// startRestored starts the relays of the file that were not deleted meanwhile.
func (m *Manager) startRestored() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.restored {
		if m.relays[r.Relay] == r && !m.closed {
			m.launch(r)
		}
	}
	m.restored = nil
}
