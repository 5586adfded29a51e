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

// keysTimeout is the time limit of a command: an import of many keys takes minutes.
const keysTimeout = 10 * time.Minute

type keysCmd struct {
	List        keysListCmd        `cmd:"" help:"List keys without their secrets."`
	Make        keysMakeCmd        `cmd:"" help:"Create a further key of a room and print it."`
	Reset       keysResetCmd       `cmd:"" help:"Replace the default key of a room and print the new one."`
	Revoke      keysRevokeCmd      `cmd:"" help:"Revoke a key, or all keys of a room, and disconnect the publisher."`
	EndSessions keysEndSessionsCmd `cmd:"" help:"Disconnect all viewers of a room. They need a valid token to watch a private room again."`
	Export      keysExportCmd      `cmd:"" help:"Write all keys with their secrets to a file."`
	Import      keysImportCmd      `cmd:"" help:"Import keys from a file, or from the Redis of an earlier server."`
}

// keyManager manages keys: on a running server, or in a store that no server has open.
type keyManager interface {
	List(ctx context.Context, room string) ([]domain.Key, error)
	Add(ctx context.Context, k domain.Key) (domain.Key, error)
	Dump(ctx context.Context) ([]domain.Key, error)
	Close() error
	reset(ctx context.Context, app, room string, grace time.Duration) (secret string, err error)
	revoke(ctx context.Context, id string) error
	deleteRoom(ctx context.Context, room string) error
	endSessions(ctx context.Context, app, room string) (ended int, err error)
	importKeys(ctx context.Context, keys []domain.Key) (keyexport.Report, error)
}

// withKeys calls fn with the key manager for the settings: the server at api_addr if it is running,
// else the store itself.
func (e *env) withKeys(fn func(context.Context, keyManager) error) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	o := newAPIClient(cfg.Config)
	k := keyManager(o)
	if !o.isRunning(ctx) {
		store, err := app.OpenKeyStore(cfg.Config)
		if err != nil {
			return fmt.Errorf("no server responds at api_addr (%s), and the store cannot be opened: %w", cfg.APIAddr, err)
		}
		k = &directKeys{store}
	}
	return errors.Join(userError(fn(ctx, k)), k.Close())
}

// userError returns err without internal details, for the user.
func userError(err error) error {
	if err == nil || domain.KindOf(err) == domain.Internal {
		return err
	}
	return errors.New(domain.Reason(err))
}

type keysListCmd struct {
	Room string `arg:"" optional:"" help:"Only keys of this room."`
}

// Run prints a table.
func (c keysListCmd) Run(e *env) error {
	return e.withKeys(func(ctx context.Context, manager keyManager) error {
		keys, err := manager.List(ctx, c.Room)
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
	Room    string `arg:"" help:"The room, which need not exist."`
	Label   string `help:"A name that is unique among the room's keys; none for the default key."`
	App     string `help:"The only app that the key is valid for."`
	Role    string `enum:"primary,backup" default:"primary" help:"primary, or backup for an encoder that takes over when the primary is idle or gone."`
	Expires string `help:"When the key expires: a time such as 2030-01-31T12:00:00Z, or a duration such as 24h." placeholder:"TIME"`
}

// Run prints the key and nothing else, for scripts.
func (c keysMakeCmd) Run(e *env) error {
	k, err := c.key(time.Now())
	if err != nil {
		return &failure{exitUsage, err}
	}
	return e.withKeys(func(ctx context.Context, manager keyManager) error {
		made, err := manager.Add(ctx, k)
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
		return domain.Key{}, errors.New("the default key cannot expire: add --label")
	}
	if c.Expires != "" {
		at, err := time.Parse(time.RFC3339, c.Expires)
		if d, durErr := time.ParseDuration(c.Expires); durErr == nil {
			at, err = now.Add(d), nil
		}
		if err != nil || !at.After(now) {
			return domain.Key{}, errors.New("--expires must be a future time such as 2030-01-31T12:00:00Z, or a duration " +
				"such as 24h")
		}
		j.Expires = &at
	}
	k, err := j.ToDomain()
	return k, userError(err)
}

type keysResetCmd struct {
	Room  string        `arg:"" help:"The room."`
	App   string        `help:"The app of the default key."`
	Grace time.Duration `help:"How long the old key stays valid and its publisher connected." placeholder:"60s"`
}

// Run prints the new key and nothing else.
func (c keysResetCmd) Run(e *env) error {
	if err := domain.CheckRoom(c.Room); err != nil {
		return &failure{exitUsage, userError(err)}
	}
	return e.withKeys(func(ctx context.Context, manager keyManager) error {
		secret, err := manager.reset(ctx, c.App, c.Room, c.Grace)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stdout, secret)
		return err
	})
}

type keysRevokeCmd struct {
	ID   string `arg:"" optional:"" help:"The ID of the key from the list, not the key itself."`
	Room string `help:"Revoke all keys of this room and end its stream."`
}

// Run revokes one key, or all of a room.
func (c keysRevokeCmd) Run(e *env) error {
	if (c.ID == "") == (c.Room == "") {
		return &failure{exitUsage, errors.New("name a key by its ID, or use --room")}
	}
	return e.withKeys(func(ctx context.Context, manager keyManager) error {
		if c.Room != "" {
			return manager.deleteRoom(ctx, c.Room)
		}
		return manager.revoke(ctx, c.ID)
	})
}

type keysEndSessionsCmd struct {
	Room string `arg:"" help:"The room."`
	App  string `help:"Only viewers of this app."`
}

// Run ends the sessions and prints their number.
func (c keysEndSessionsCmd) Run(e *env) error {
	if err := domain.CheckRoom(c.Room); err != nil {
		return &failure{exitUsage, userError(err)}
	}
	return e.withKeys(func(ctx context.Context, manager keyManager) error {
		ended, err := manager.endSessions(ctx, c.App, c.Room)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stderr, "livego: %d viewers disconnected\n", ended)
		return err
	})
}

type keysExportCmd struct {
	File string `arg:"" optional:"" help:"The new file, which only its owner can read. None or -: standard output."`
}

// Run writes the file. After an error it removes the file.
func (c keysExportCmd) Run(e *env) error {
	return e.withKeys(func(ctx context.Context, manager keyManager) error {
		keys, err := manager.Dump(ctx)
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
	File      string   `arg:"" optional:"" help:"A key file. None or -: standard input."`
	FromRedis string   `name:"from-redis" help:"Import from the Redis of an earlier server of this name at this address, not from a file." placeholder:"URL"`
	Rename    []string `sep:"none" help:"With --from-redis: import the room OLD as NEW, for names that are not valid. May be repeated." placeholder:"OLD=NEW"`
}

// Run stores keys unchanged and prints how many. It fails if keys were refused.
func (c keysImportCmd) Run(e *env) error {
	keys, refused, err := c.keys(e)
	if err != nil {
		return userError(err)
	}
	var report keyexport.Report
	err = e.withKeys(func(ctx context.Context, manager keyManager) (err error) {
		report, err = manager.importKeys(ctx, keys)
		return err
	})
	fmt.Fprintf(e.stderr, "livego: %d keys added, %d were there already\n", report.Added, report.Same)
	for _, r := range append(refused, report.Refused...) {
		err = errors.Join(err, errors.New("not imported: "+r))
	}
	return err
}

// keys returns the keys to store, and a message for each key that cannot be stored.
func (c keysImportCmd) keys(e *env) (keys []domain.Key, refused []string, err error) {
	if c.FromRedis == "" {
		if len(c.Rename) > 0 {
			return nil, nil, &failure{exitUsage,
				errors.New("--rename needs --from-redis: in a key file, edit the room name")}
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
	found, halves, err := app.LegacyKeys(ctx, cfg.Config, c.FromRedis)
	if err != nil {
		return nil, nil, fmt.Errorf("--from-redis: %w", userError(err))
	}
	fmt.Fprintf(e.stderr, "livego: found %d rooms with a key; skipped %d entries without a counterpart\n", len(found),
		halves)
	return renameRooms(found, names)
}

// parseRenames parses --rename: new names by old name. A new name has no "=", an old one may.
func parseRenames(list []string) (map[string]string, error) {
	names := map[string]string{}
	for _, pair := range list {
		i := strings.LastIndexByte(pair, '=')
		if i <= 0 {
			return nil, fmt.Errorf("--rename: %q is not of the form OLD=NEW", pair)
		}
		from, to := pair[:i], pair[i+1:]
		if err := domain.CheckNewRoom(to); err != nil {
			return nil, fmt.Errorf("--rename: %s", domain.Reason(err))
		}
		if _, twice := names[from]; twice {
			return nil, fmt.Errorf("--rename: the room %q is given twice", from)
		}
		names[from] = to
	}
	return names, nil
}

// renameRooms returns the keys of an earlier server with the new names of their rooms, and a
// message for each room whose name is invalid.
func renameRooms(found []domain.Key, names map[string]string) (keys []domain.Key, refused []string, err error) {
	used := map[string]string{} // old names by new name
	for _, k := range found {
		old := k.Room
		if to, ok := names[old]; ok {
			k.Room = to
		}
		delete(names, old)
		if err := domain.CheckNewRoom(k.Room); err != nil {
			refused = append(refused, fmt.Sprintf("%s; import it under another name with --rename %s", domain.Reason(err),
				shellQuote(old+"=NEW")))
			continue
		}
		if other, ok := used[k.Room]; ok {
			return nil, nil, fmt.Errorf("rooms %q and %q would both be named %s", other, old, k.Room)
		}
		used[k.Room] = old
		keys = append(keys, k)
	}
	for old := range names {
		return nil, nil, fmt.Errorf("--rename: this Redis has no room %q with a key", old)
	}
	return keys, refused, nil
}

// shellQuote returns s as a quoted word of the shell.
func shellQuote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s) // for $'...' of some shells; POSIX shells have no better way
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// directKeys manages the keys of a store without a server.
type directKeys struct{ app.Keys }

func (s *directKeys) reset(ctx context.Context, app, room string, grace time.Duration) (string, error) {
	k, _, err := s.Rotate(ctx, app, room, domain.Rotation{Grace: grace})
	return k.Secret, err
}

func (s *directKeys) revoke(ctx context.Context, id string) error {
	_, err := s.Revoke(ctx, id)
	return err
}

func (s *directKeys) deleteRoom(ctx context.Context, room string) error {
	_, err := s.Delete(ctx, "", room)
	return err
}

func (s *directKeys) endSessions(context.Context, string, string) (int, error) {
	return 0, errors.New("no server responds at api_addr: there are no sessions")
}

func (s *directKeys) importKeys(ctx context.Context, keys []domain.Key) (keyexport.Report, error) {
	return keyexport.Import(ctx, s, keys)
}
