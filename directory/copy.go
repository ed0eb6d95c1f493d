package directory

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mpr/company"
	"mpr/rules"
)

// The file of a replica: a line that names the format; a key and a value of eight bytes
// each per company, ended by a pair of zeros; the length of what follows, and environment,
// regions and campaign as JSON; a checksum over all of it. Integers are little-endian.
//
// The regions come last because the replica changes while it is written: read after the
// companies, they hold every region that a company of the file is in.
const (
	copyFormat = "mpr replica 2\n"
	pairSize   = 16
	// maxTrailer bounds what is read for the regions, should the file be damaged.
	maxTrailer = 4 << 20
)

var (
	errDamaged = errors.New("the file is damaged")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type copyTrailer struct {
	Environment string               `json:"environment"`
	Codes       []company.Region     `json:"codes"`
	Infos       []company.RegionInfo `json:"infos"`
	Campaign    *rules.Campaign      `json:"campaign,omitempty"`
	// Heard is how far the placements' bucket is in the file: a start goes on from there.
	Heard *point `json:"heard,omitempty"`
}

// save writes the file if anything has changed since the last time.
func (r *Replica) save() error {
	r.write.Lock()
	dirty := r.dirty
	r.dirty = false
	r.write.Unlock()
	if !dirty || r.file == "" {
		return nil
	}
	err := WriteFile(r.file, 0o600, r.writeCopy)
	if err != nil {
		r.write.Lock()
		r.dirty = true
		r.write.Unlock()
	}
	return err
}

func (r *Replica) writeCopy(to io.Writer) error {
	sum := crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 1<<16)
	_, _ = w.WriteString(copyFormat) // a bufio.Writer keeps its first error for Flush
	var heard *point                 // read ahead of the companies: the file may hold more, never less
	if r.placed != nil {
		heard = r.placed.at.Load()
	}
	var pair [pairSize]byte
	r.placements.Load().each(func(id company.ID, v uint64) bool {
		binary.LittleEndian.PutUint64(pair[:8], uint64(id)) //nolint:gosec // ids are positive
		binary.LittleEndian.PutUint64(pair[8:], v)
		_, _ = w.Write(pair[:])
		return true
	})
	_, _ = w.Write(make([]byte, pairSize))
	list := r.regions.Load()
	trailer, err := json.Marshal(copyTrailer{r.environment, list.codes, list.infos, r.campaign.Load(), heard})
	if err != nil {
		return err
	}
	_ = binary.Write(w, binary.LittleEndian, uint32(len(trailer))) //nolint:gosec // at most 256 regions
	_, _ = w.Write(trailer)
	if err := w.Flush(); err != nil {
		return err
	}
	return binary.Write(to, binary.LittleEndian, sum.Sum32())
}

// load reads the file into the empty replica.
func (r *Replica) load() error {
	f, err := os.Open(r.file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	in := bufio.NewReaderSize(f, 1<<16)
	checked := io.TeeReader(in, sum)
	t, regions, err := readPairs(checked, info.Size())
	if err != nil {
		return err
	}
	trailer, err := readTrailer(checked)
	if err != nil {
		return err
	}
	want := sum.Sum32()
	var got uint32
	if binary.Read(in, binary.LittleEndian, &got) != nil || got != want || regions > len(trailer.Codes) {
		return errDamaged
	}
	if trailer.Environment != r.environment {
		return fmt.Errorf("the file is a copy of environment %q, not of %q", trailer.Environment, r.environment)
	}
	r.regions.Store(&regionList{codes: trailer.Codes, infos: trailer.Infos})
	r.placements.Store(t)
	r.campaign.Store(trailer.Campaign)
	r.from = trailer.Heard
	return nil
}

// readPairs reads the companies, and answers how many regions they are in at the least.
func readPairs(in io.Reader, size int64) (t *table, regions int, err error) {
	format := make([]byte, len(copyFormat))
	if _, err := io.ReadFull(in, format); err != nil || string(format) != copyFormat {
		return nil, 0, errDamaged
	}
	t = newTable(int(size / pairSize))
	var pair [pairSize]byte
	for {
		if _, err := io.ReadFull(in, pair[:]); err != nil {
			return nil, 0, errDamaged
		}
		id, v := binary.LittleEndian.Uint64(pair[:8]), binary.LittleEndian.Uint64(pair[8:])
		if id == 0 && v == 0 {
			return t, regions, nil
		}
		if id == 0 || v == 0 || !t.put(company.ID(id), v) { //nolint:gosec // checked by the sum
			return nil, 0, errDamaged
		}
		regions = max(regions, packedRegion(v)+1)
	}
}

func readTrailer(in io.Reader) (copyTrailer, error) {
	var h copyTrailer
	var n uint32
	if err := binary.Read(in, binary.LittleEndian, &n); err != nil || n > maxTrailer {
		return h, errDamaged
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(in, data); err != nil || json.Unmarshal(data, &h) != nil {
		return h, errDamaged
	}
	if len(h.Codes) != len(h.Infos) || len(h.Codes) > maxRegions {
		return h, errDamaged
	}
	return h, nil
}

// WriteFile replaces a file in one step, synced to disk: a reader, or a start after a
// crash, finds the old content or the new.
func WriteFile(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // readable by its owner alone at first
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(f.Chmod(mode), write(f)); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// ReadCopy reads a copy on disk, JSON, of what an environment has in a bucket. One of another environment
// is refused: it names its own in "environment".
func ReadCopy(path, environment string, into any) error {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	var of struct{ Environment string }
	if err = json.Unmarshal(data, &of); err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if of.Environment != environment {
		return fmt.Errorf("the file is a copy of environment %q, not of %q", of.Environment, environment)
	}
	return nil
}

// syncFolder makes the new name survive a loss of power. Not every system can do that.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return nil //nolint:nilerr // the file itself is written
	}
	_ = d.Sync()
	return d.Close()
}
