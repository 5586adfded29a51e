package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"livego/internal/app"
	"livego/internal/control/keyexport"
	"livego/internal/domain"
)

// keysTimeout bounds a command: an import of many keys takes its time.
const keysTimeout = 10 * time.Minute

type keysCmd struct {
	List        keysListCmd        `cmd:"" help:"List the keys, without their secrets."`
	Make        keysMakeCmd        `cmd:"" help:"Make a further key of a room, and print it."`
	Reset       keysResetCmd       `cmd:"" help:"Give a room a new default key, and print it."`
	Revoke      keysRevokeCmd      `cmd:"" help:"Revoke a key, or all of a room. A publisher that uses it is disconnected."`
	EndSessions keysEndSessionsCmd `cmd:"" help:"Disconnect all viewers of a room. To watch a private room again they need a valid token."`
	Export      keysExportCmd      `cmd:"" help:"Write every key, with its secret, to a file."`
	Import      keysImportCmd      `cmd:"" help:"Store the keys of a file, or those that an earlier server left in a Redis."`
}

// keyManager is where keys are managed: a running server, or a store that no server holds.
type keyManager interface {
	list(ctx context.Context, room string) ([]domain.Key, error)
	add(ctx context.Context, k domain.Key) (domain.Key, error)
	reset(ctx context.Context, app, room string, grace time.Duration) (secret string, err error)
	revoke(ctx context.Context, id string) error
	deleteRoom(ctx context.Context, room string) error
	endSessions(ctx context.Context, app, room string) (ended int, err error)
	exportKeys(ctx context.Context) ([]domain.Key, error)
	importKeys(ctx context.Context, keys []domain.Key) (keyexport.Report, error)
	close() error
}

// withKeys calls fn with the keys of the settings: through the server where one answers at
// api_addr, else on the store itself.
func (e *env) withKeys(fn func(context.Context, keyManager) error) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	o := newAPIClient(cfg)
	k := keyManager(o)
	if !o.isRunning(ctx) {
		store, err := app.OpenKeys(cfg)
		if err != nil {
			return fmt.Errorf("no server answers at api_addr (%s), and the store itself: %w", cfg.APIAddr, err)
		}
		k = &directKeys{store}
	}
	return errors.Join(userError(fn(ctx, k)), k.close())
}

// userError returns err as a person is told.
func userError(err error) error {
	if err == nil || domain.KindOf(err) == domain.Internal {
		return err
	}
	return errors.New(domain.Reason(err))
}

type keysListCmd struct {
	Room string `arg:"" optional:"" help:"Of this room only."`
}

// Run prints a table.
func (c keysListCmd) Run(e *env) error {
	return e.withKeys(func(ctx context.Context, ring keyManager) error {
		keys, err := ring.list(ctx, c.Room)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tROOM\tAPP\tLABEL\tROLE\tCREATED\tEXPIRES\tLAST USED")
		for _, k := range keys {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%v\t%s\t%s\t%s\n",
				k.ID, k.Room, dash(k.App), dash(k.Label), k.Role, formatTime(k.Created), formatTime(k.Expires),
				formatTime(k.LastUsed))
		}
		return w.Flush()
	})
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04Z")
}

type keysMakeCmd struct {
	Room    string `arg:"" help:"The room, which need not be there."`
	Label   string `help:"What tells the key from the room's others; none for the default key."`
	App     string `help:"The only app that it is good for."`
	Role    string `enum:"primary,backup" default:"primary" help:"primary or backup: the encoder that steps in."`
	Expires string `help:"When it ends: a time such as 2030-01-31T12:00:00Z, or a duration from now such as 24h." placeholder:"TIME"`
}

// Run prints the key and nothing else, for scripts.
func (c keysMakeCmd) Run(e *env) error {
	k, err := c.key(time.Now())
	if err != nil {
		return &failure{exitUsage, err}
	}
	return e.withKeys(func(ctx context.Context, ring keyManager) error {
		made, err := ring.add(ctx, k)
		if domain.KindOf(err) == domain.Conflict && k.Label == "" {
			return fmt.Errorf("%s\n  livego keys make %s --label=NAME\n  livego keys reset %s", domain.Reason(err), k.Room,
				k.Room)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stdout, made.Secret)
		return err
	})
}

func (c keysMakeCmd) key(now time.Time) (domain.Key, error) {
	j := keyexport.Key{Room: c.Room, App: c.App, Label: c.Label, Role: c.Role}
	if c.Expires != "" && c.Label == "" {
		return domain.Key{}, errors.New("the default key does not expire: give this one a --label")
	}
	if c.Expires != "" {
		at, err := time.Parse(time.RFC3339, c.Expires)
		if d, durErr := time.ParseDuration(c.Expires); durErr == nil {
			at, err = now.Add(d), nil
		}
		if err != nil || !at.After(now) {
			return domain.Key{}, errors.New("--expires must be a time to come such as 2030-01-31T12:00:00Z, or a duration " +
				"such as 24h")
		}
		j.Expires = &at
	}
	k, err := j.ToDomain()
	return k, userError(err)
}

type keysResetCmd struct {
	Room  string        `arg:"" help:"The room."`
	App   string        `help:"The app whose default key is meant."`
	Grace time.Duration `help:"How long the old key stays good, and who publishes with it connected." placeholder:"60s"`
}

// Run prints the new key and nothing else.
func (c keysResetCmd) Run(e *env) error {
	if err := domain.CheckRoom(c.Room); err != nil {
		return &failure{exitUsage, userError(err)}
	}
	return e.withKeys(func(ctx context.Context, ring keyManager) error {
		secret, err := ring.reset(ctx, c.App, c.Room, c.Grace)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stdout, secret)
		return err
	})
}

type keysRevokeCmd struct {
	ID   string `arg:"" optional:"" help:"The id of the key, from the list; not the key."`
	Room string `help:"All keys of this room; its stream ends."`
}

// Run revokes.
func (c keysRevokeCmd) Run(e *env) error {
	if (c.ID == "") == (c.Room == "") {
		return &failure{exitUsage, errors.New("say which: the id of a key, or --room")}
	}
	return e.withKeys(func(ctx context.Context, ring keyManager) error {
		if c.Room != "" {
			return ring.deleteRoom(ctx, c.Room)
		}
		return ring.revoke(ctx, c.ID)
	})
}

type keysEndSessionsCmd struct {
	Room string `arg:"" help:"The room."`
	App  string `help:"In this app only."`
}

// Run ends the sessions and says how many.
func (c keysEndSessionsCmd) Run(e *env) error {
	if err := domain.CheckRoom(c.Room); err != nil {
		return &failure{exitUsage, userError(err)}
	}
	return e.withKeys(func(ctx context.Context, ring keyManager) error {
		ended, err := ring.endSessions(ctx, c.App, c.Room)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stderr, "livego: %d viewers disconnected\n", ended)
		return err
	})
}

type keysExportCmd struct {
	File string `arg:"" optional:"" help:"The file to make, for its owner alone; it must not be there. None or -: standard output."`
}

// Run writes the file, or leaves none.
func (c keysExportCmd) Run(e *env) error {
	return e.withKeys(func(ctx context.Context, ring keyManager) error {
		keys, err := ring.exportKeys(ctx)
		if err != nil {
			return err
		}
		if c.File == "" || c.File == "-" {
			return keyexport.Encode(e.stdout, keys)
		}
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(keyexport.Encode(f, keys), f.Sync(), f.Close()); err != nil {
			return errors.Join(err, os.Remove(c.File))
		}
		_, err = fmt.Fprintf(e.stderr, "livego: %d keys written to %s\n", len(keys), c.File)
		return err
	})
}

type keysImportCmd struct {
	File      string   `arg:"" optional:"" help:"A file of keys. None or -: standard input."`
	FromRedis string   `name:"from-redis" help:"Take the keys that an earlier server of this name left in the Redis at this address, instead of a file's." placeholder:"URL"`
	Rename    []string `sep:"none" help:"With --from-redis: take the room OLD over as NEW; for names that are refused now. May be given several times." placeholder:"OLD=NEW"`
}

// Run stores keys as they are, and says what came of it. Keys that were not taken make it fail.
func (c keysImportCmd) Run(e *env) error {
	keys, refused, err := c.keys(e)
	if err != nil {
		return userError(err)
	}
	var report keyexport.Report
	err = e.withKeys(func(ctx context.Context, ring keyManager) (err error) {
		report, err = ring.importKeys(ctx, keys)
		return err
	})
	fmt.Fprintf(e.stderr, "livego: %d keys added, %d were there already\n", report.Added, report.Same)
	for _, r := range append(refused, report.Refused...) {
		err = errors.Join(err, errors.New("not taken: "+r))
	}
	return err
}

// keys returns the keys to store, and what is said of those that cannot be.
func (c keysImportCmd) keys(e *env) (keys []domain.Key, refused []string, err error) {
	if c.FromRedis == "" {
		if len(c.Rename) > 0 {
			return nil, nil, &failure{exitUsage,
				errors.New("--rename goes with --from-redis: in a file of keys, change the name")}
		}
		in, name := io.Reader(os.Stdin), "standard input"
		if c.File != "" && c.File != "-" {
			f, err := os.Open(c.File)
			if err != nil {
				return nil, nil, err
			}
			defer f.Close()
			in, name = f, c.File
		}
		if keys, err = keyexport.Decode(in); err != nil {
			err = fmt.Errorf("%s: %w", name, userError(err))
		}
		return keys, nil, err
	}
	names, err := parseRenames(c.Rename)
	if err != nil {
		return nil, nil, &failure{exitUsage, err}
	}
	cfg, err := e.load()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	found, halves, err := app.LegacyKeys(ctx, cfg, c.FromRedis)
	if err != nil {
		return nil, nil, fmt.Errorf("--from-redis: %w", userError(err))
	}
	fmt.Fprintf(e.stderr, "livego: found %d rooms with a key; skipped %d entries without a counterpart\n", len(found),
		halves)
	return renameRooms(found, names)
}

// parseRenames reads --rename: the new name of each room, by the old one. A new name has no "=", an old one may.
func parseRenames(list []string) (map[string]string, error) {
	names := map[string]string{}
	for _, pair := range list {
		i := strings.LastIndexByte(pair, '=')
		if i <= 0 {
			return nil, fmt.Errorf("--rename: %q is not of the form OLD=NEW", pair)
		}
		from, to := pair[:i], pair[i+1:]
		if err := domain.CheckRoom(to); err != nil {
			return nil, fmt.Errorf("--rename: %s", domain.Reason(err))
		}
		if _, twice := names[from]; twice {
			return nil, fmt.Errorf("--rename: the room %q is given twice", from)
		}
		names[from] = to
	}
	return names, nil
}

// renameRooms returns the keys of an earlier server with the new names of their rooms, and what is
// said of rooms whose name is refused.
func renameRooms(found []domain.Key, names map[string]string) (keys []domain.Key, refused []string, err error) {
	used := map[string]string{} // new name -> old name
	for _, k := range found {
		old := k.Room
		if to, ok := names[old]; ok {
			k.Room = to
		}
		delete(names, old)
		if err := domain.CheckRoom(k.Room); err != nil {
			refused = append(refused, fmt.Sprintf("%s; import it under another name with --rename %s", domain.Reason(err),
				shellQuote(old+"=NEW")))
			continue
		}
		if other, ok := used[k.Room]; ok {
			return nil, nil, fmt.Errorf("the rooms %q and %q would both be called %s", other, old, k.Room)
		}
		used[k.Room] = old
		keys = append(keys, k)
	}
	for old := range names {
		return nil, nil, fmt.Errorf("--rename: this Redis has no room %q with a key", old)
	}
	return keys, refused, nil
}

// shellQuote returns s as a word of the shell.
func shellQuote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s) // for $'...' of some shells; no shell has a better way
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// directKeys is the store itself.
type directKeys struct{ keys app.Keys }

func (s *directKeys) list(ctx context.Context, room string) ([]domain.Key, error) {
	return s.keys.List(ctx, room)
}

func (s *directKeys) add(ctx context.Context, k domain.Key) (domain.Key, error) {
	return s.keys.Add(ctx, k)
}

func (s *directKeys) reset(ctx context.Context, app, room string, grace time.Duration) (string, error) {
	k, _, err := s.keys.Rotate(ctx, app, room, domain.Rotation{Grace: grace})
	return k.Secret, err
}

func (s *directKeys) revoke(ctx context.Context, id string) error {
	_, err := s.keys.Revoke(ctx, id)
	return err
}

func (s *directKeys) deleteRoom(ctx context.Context, room string) error {
	_, err := s.keys.Delete(ctx, "", room)
	return err
}

func (s *directKeys) endSessions(context.Context, string, string) (int, error) {
	return 0, errors.New("no server answers at api_addr: there are no sessions")
}

func (s *directKeys) exportKeys(ctx context.Context) ([]domain.Key, error) { return s.keys.Dump(ctx) }

func (s *directKeys) importKeys(ctx context.Context, keys []domain.Key) (keyexport.Report, error) {
	return keyexport.Import(ctx, s.keys, keys)
}

func (s *directKeys) close() error { return s.keys.Close() }
