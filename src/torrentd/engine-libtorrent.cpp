/*
 * engine-libtorrent.cpp: engine.h on libtorrent-rasterbar 2.0
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The only C++ file.  What hostile bytes mean is judged before libtorrent sees
 * them (metainfo.c, magnet-parse.c); hashing is hash.c's.  Here stands what is
 * peculiar to libtorrent.
 *
 * Shape: a session has a network thread of its own.  Its alerts only write to an
 * eventfd; the caller's main context pops them (onAlerts), turns them into
 * pending events and then delivers these one by one (deliver), looking again
 * after each whether engine and torrent still are there, because a callback
 * may end either.  What GetStatus() says is a copy that state_update_alerts
 * renew, so asking costs no round trip to a thread that may wait for a disk.
 *
 * A magnet link is fetched in two steps.  First a torrent without a place on
 * disk gets the info dictionary; then it is judged like one from a file; only
 * then a second torrent is made for the data.  So nothing that a stranger's
 * dictionary says ever meets the file system.
 *
 * Invariants: every extern function catches everything (guard); all members
 * are used in the caller's thread only, but for Wake, which the network thread
 * writes to.  Sessions end in threads of their own (Reaper): that may take as
 * long as a tracker takes to hear of it.
 */

#include <config.h>

#include "allow.h"
#include "disk.h"
#include "engine-base.h"
#include "delta.h"
#include "depth.h"
#include "have.h"
#include "i18n.h"
#include "listen.h"
#include "metainfo.h"
#include "pace.h"
#include "queue.h"
#include "reveal.h"
#include "tls.h"
#include "tls-door.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <glib-unix.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/announce_entry.hpp>
#include <libtorrent/aux_/socket_type.hpp>
#include <libtorrent/bencode.hpp>
#include <libtorrent/disk_buffer_holder.hpp>
#include <libtorrent/disk_interface.hpp>
#include <libtorrent/disk_observer.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/extensions.hpp>
#include <libtorrent/file_storage.hpp>
#include <libtorrent/ip_filter.hpp>
#include <libtorrent/magnet_uri.hpp>
#include <libtorrent/peer_connection.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <libtorrent/peer_info.hpp>
#include <libtorrent/peer_request.hpp>
#include <libtorrent/read_resume_data.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/session_stats.hpp>
#include <libtorrent/ssl.hpp>
#include <libtorrent/torrent.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>
#include <libtorrent/write_resume_data.hpp>

namespace {

/* Masters that are looked through for what a new one has in common with them. */
constexpr std::size_t PREDECESSORS = 4;
/* Bytes below which a file is just fetched. */
constexpr guint64 HOLD_MIN = 1024 * 1024;
/* How long a peer is waited for that can tell what is in a master, and how long for its
 * answer, microseconds. */
constexpr gint64 HOLD_PEER = 1500000;
constexpr gint64 HOLD_ANSWER = 5 * G_USEC_PER_SEC;

/* How often the clock ticks, microseconds, and how often in the first seconds after
 * something was begun. */
constexpr gint64 TICK = 500000;
constexpr gint64 TICK_HURRY = 100000;
constexpr gint64 HURRY = 3 * G_USEC_PER_SEC;

/* An existing path below which nothing can be made: the place of a torrent
 * that is to have none. */
constexpr char NOWHERE[] = "/dev/null/torrentpool";

/* What the network thread may touch. */
struct Wake {
    int const fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    Wake() = default;
    Wake(Wake const &) = delete;
    Wake &operator=(Wake const &) = delete;
    ~Wake()
    {
        if (fd >= 0)
            close(fd);
    }

    void ring() const
    {
        guint64 one = 1;

        /* Fails only where the counter is full: then it is ringing already. */
        if (write(fd, &one, sizeof(one)) < 0)
            return;
    }

    void hush() const
    {
        guint64 count;

        if (read(fd, &count, sizeof(count)) < 0)
            return;
    }
};

/* Ends sessions without making anybody wait, but for the end of the process
 * and for whoever needs a port that an ending session may still hold. */
class Reaper {
    std::mutex m_lock;
    std::vector<std::thread> m_threads;

public:
    template <typename Func>
    void take(Func &&end)
    {
        std::lock_guard<std::mutex> guard(m_lock);
        m_threads.emplace_back(std::forward<Func>(end));
    }

    bool wait()
    {
        std::vector<std::thread> threads;
        {
            std::lock_guard<std::mutex> guard(m_lock);
            threads.swap(m_threads);
        }
        for (auto &t : threads)
            t.join();
        return !threads.empty();
    }

    ~Reaper() { wait(); }
};

Reaper reaper;

/* --- leaves: what hosts tell each other of a master before they fetch it (delta.h) --- */

/* Our number for the message, and how often a peer is asked before it answers. */
constexpr int LEAVES_MESSAGE = 41;
constexpr std::size_t LEAVES_ASKED = 4;

/* What a torrent's owner and its peers in the network thread share. */
struct Leaves {
    std::mutex lock;
    std::string path;                   /* of our own leaves; empty: none */
    GBytes *own = nullptr;              /* mapped; the network thread's */
    VirTorrentDelta *delta = nullptr;   /* what is to be asked for */
    bool const hold;                    /* no payload yet */
    std::atomic<int> peers{0};          /* that have them */
    std::atomic<gint64> moved{0};       /* when something came */
    std::shared_ptr<Wake> const wake;

    Leaves(bool h, std::shared_ptr<Wake> w) : hold(h), wake(std::move(w)) {}
    Leaves(Leaves const &) = delete;
    Leaves &operator=(Leaves const &) = delete;
    ~Leaves()
    {
        if (own)
            g_bytes_unref(own);
        if (delta)
            virTorrentDeltaUnref(delta);
    }

    GBytes *mine()
    {
        if (!own && !path.empty()) {
            GMappedFile *file = g_mapped_file_new(path.c_str(), FALSE, nullptr);

            if (file) {
                own = g_mapped_file_get_bytes(file);
                g_mapped_file_unref(file);
            }
        }
        return own;
    }

    VirTorrentDelta *wanted()
    {
        std::lock_guard<std::mutex> guard(lock);
        return delta ? virTorrentDeltaRef(delta) : nullptr;
    }
};

struct LeavesPeer final : lt::peer_plugin {
    std::shared_ptr<Leaves> const m_leaves;
    lt::bt_peer_connection_handle m_peer;
    int m_index = 0;                    /* the peer's number for the message */
    bool m_serves = false;
    std::vector<std::pair<guint32, guint32>> m_asked;

    LeavesPeer(std::shared_ptr<Leaves> leaves, lt::peer_connection_handle peer)
        : m_leaves(std::move(leaves)), m_peer(std::move(peer)) {}

    void add_handshake(lt::entry &h) override
    {
        h["m"]["tp_leaves"] = LEAVES_MESSAGE;
        if (!m_leaves->path.empty())
            h["tp_leaves"] = 1;
    }

    bool on_extension_handshake(lt::bdecode_node const &h) override
    {
        lt::bdecode_node const m = h.dict_find_dict("m");

        m_index = m ? static_cast<int>(m.dict_find_int_value("tp_leaves", 0)) : 0;
        if (m_index > 0 && h.dict_find_int_value("tp_leaves", 0) && !m_serves) {
            m_serves = true;
            m_leaves->peers++;
        }
        ask();
        return m_index > 0 || m_leaves->hold;
    }

    /* nothing may be requested */
    bool on_unchoke() override { return m_leaves->hold; }
    bool on_allowed_fast(lt::piece_index_t) override { return m_leaves->hold; }
    void tick() override { ask(); }
    void on_disconnect(lt::error_code const &) override { stop(); }

    bool on_extended(int length, int message, lt::span<char const> body) override
    {
        VirTorrentLeavesMessage got;

        if (message != LEAVES_MESSAGE)
            return false;
        if (body.size() < length)
            return true;
        if (!virTorrentLeavesParse(reinterpret_cast<guint8 const *>(body.data()),
                                   static_cast<gsize>(body.size()), &got)) {
            stop();
        } else if (got.type == VIR_TORRENT_LEAVES_REQUEST) {
            send(virTorrentLeavesAnswer(m_leaves->mine(), &got));
        } else {
            answer(got);
            ask();
        }
        return true;
    }

private:
    void answer(VirTorrentLeavesMessage const &got)
    {
        auto const it = std::find(m_asked.begin(), m_asked.end(), std::make_pair(got.first, got.count));
        g_autoptr(VirTorrentDelta) delta = m_leaves->wanted();

        if (it == m_asked.end() || !delta)
            return;
        m_asked.erase(it);
        if (got.type == VIR_TORRENT_LEAVES_REJECT) {
            virTorrentDeltaMiss(delta, got.first, got.count);
            stop();
        } else if (!virTorrentDeltaTake(delta, got.first, got.count, got.leaves,
                                        got.count * VIR_TORRENT_HASH_SIZE)) {
            stop();
        } else {
            m_leaves->moved = g_get_monotonic_time();
            if (virTorrentDeltaIsComplete(delta))
                m_leaves->wake->ring();
        }
    }

    /* This one is not asked any more. */
    void stop()
    {
        g_autoptr(VirTorrentDelta) delta = m_leaves->wanted();

        for (auto const &range : m_asked) {
            if (delta)
                virTorrentDeltaMiss(delta, range.first, range.second);
        }
        m_asked.clear();
        if (m_serves)
            m_leaves->peers--;
        m_serves = false;
    }

    void ask()
    {
        g_autoptr(VirTorrentDelta) delta = m_serves ? m_leaves->wanted() : nullptr;
        VirTorrentLeavesMessage request = { VIR_TORRENT_LEAVES_REQUEST, 0, 0, nullptr };

        while (delta && m_asked.size() < LEAVES_ASKED &&
               virTorrentDeltaWant(delta, &request.first, &request.count)) {
            m_asked.emplace_back(request.first, request.count);
            send(virTorrentLeavesFormat(&request));
        }
    }

    void send(GByteArray *payload)
    {
        guint32 const length = GUINT32_TO_BE(payload->len + 2);
        char header[6];

        memcpy(header, &length, sizeof(length));
        header[4] = 20;                 /* BEP 10: extended */
        header[5] = static_cast<char>(m_index);
        m_peer.send_buffer(header, sizeof(header));
        m_peer.send_buffer(reinterpret_cast<char const *>(payload->data), static_cast<int>(payload->len));
        g_byte_array_unref(payload);
    }
};

struct LeavesTorrent final : lt::torrent_plugin {
    std::shared_ptr<Leaves> const m_leaves;

    explicit LeavesTorrent(std::shared_ptr<Leaves> leaves) : m_leaves(std::move(leaves)) {}

    std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const &peer) override
    {
        if (peer.type() != lt::connection_type::bittorrent)
            return {};
        return std::make_shared<LeavesPeer>(m_leaves, peer);
    }
};

/* Notes what was verified, for when the process dies (have.h). */
struct HaveTorrent final : lt::torrent_plugin {
    std::shared_ptr<VirTorrentHave> const m_have;

    explicit HaveTorrent(std::shared_ptr<VirTorrentHave> have) : m_have(std::move(have)) {}

    void on_piece_pass(lt::piece_index_t piece) override
    {
        virTorrentHaveAdd(m_have.get(), static_cast<guint32>(static_cast<int>(piece)));
    }
};

/* A master that may be the predecessor of what is fetched. */
struct Predecessor {
    std::string path, leaves;
    guint64 size;
    std::size_t alike;                  /* length of what the names have in common */
};

/* Fills a partial file, in a thread of its own. */
struct Fill {
    VirTorrentDelta *delta;
    std::vector<Predecessor> masters;
    int fd;
    gint cancelled = FALSE;
    std::atomic<bool> done{false};
    bool ok = false;
    std::shared_ptr<Wake> wake;

    ~Fill()
    {
        virTorrentDeltaUnref(delta);
        close(fd);
    }

    static void freeMaster(gpointer opaque)
    {
        auto master = static_cast<VirTorrentDeltaMaster *>(opaque);

        close(master->fd);
        g_bytes_unref(master->leaves);
        g_free(master);
    }

    void run() noexcept
    {
        g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(freeMaster);

        for (auto const &m : masters) {
            int const from = open(m.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            GMappedFile *file = g_mapped_file_new(m.leaves.c_str(), FALSE, nullptr);

            if (from >= 0 && file) {
                auto master = g_new0(VirTorrentDeltaMaster, 1);

                master->fd = from;
                master->size = m.size;
                master->leaves = g_mapped_file_get_bytes(file);
                g_ptr_array_add(found, master);
            } else if (from >= 0) {
                close(from);
            }
            if (file)
                g_mapped_file_unref(file);
        }
        ok = virTorrentDeltaFill(delta, found, fd, &cancelled);
        done = true;
        wake->ring();
    }
};

/* --- private swarms (tls.h) ------------------------------------------------------- */

/* Of a session; ticks in the network thread. */
struct TlsSession final : lt::plugin {
    VirTorrentTlsDoor *const m_door = virTorrentTlsDoorNew();

    TlsSession() = default;
    TlsSession(TlsSession const &) = delete;
    TlsSession &operator=(TlsSession const &) = delete;
    ~TlsSession() override { virTorrentTlsDoorFree(m_door); }

    lt::feature_flags_t implemented_features() override { return tick_feature; }
    void on_tick() override { virTorrentTlsDoorTick(m_door, g_get_monotonic_time()); }
};

/* In the network thread, where a torrent's TLS context is used. */
struct TlsTorrent final : lt::torrent_plugin {
    VirTorrentTls *const m_tls;
    std::shared_ptr<TlsSession> const m_session;
    std::weak_ptr<lt::torrent> const m_torrent;
    guint m_serial = 0;

    TlsTorrent(VirTorrentTls *tls, std::shared_ptr<TlsSession> session, lt::torrent_handle const &handle)
        : m_tls(virTorrentTlsRef(tls)), m_session(std::move(session)), m_torrent(handle.native_handle())
    {
        apply();
    }
    TlsTorrent(TlsTorrent const &) = delete;
    TlsTorrent &operator=(TlsTorrent const &) = delete;
    ~TlsTorrent() override { virTorrentTlsUnref(m_tls); }

    /* There is no public way to a torrent's context: libtorrent's own functions set a
     * certificate without the chain to its authority, and believe the torrent whom to trust. */
    void apply()
    {
        auto const torrent = m_torrent.lock();
        auto const ctx = torrent ? torrent->ssl_ctx() : nullptr;

        m_serial = virTorrentTlsGetSerial(m_tls);
        if (!ctx || !virTorrentTlsApply(m_tls, ctx->native_handle()))
            throw std::runtime_error(_("the certificate in the torrent cannot be used"));
    }

    std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const &peer) override
    {
        auto const remote = peer.remote();

        if (!peer.is_outgoing())
            virTorrentTlsDoorAdmit(m_session->m_door, remote.address().to_string().c_str(), remote.port());
        return {};
    }

    void tick() override
    {
        if (m_serial != virTorrentTlsGetSerial(m_tls))
            apply();
    }
};

/* Of a torrent that is only known by its hash: learns who may have it, and speaks to nobody. */
struct Finder final : lt::torrent_plugin {
    std::mutex m_lock;
    std::vector<lt::tcp::endpoint> m_found;
    std::shared_ptr<Wake> const m_wake;

    struct Nobody final : lt::peer_plugin {
        lt::peer_connection_handle m_peer;

        explicit Nobody(lt::peer_connection_handle peer) : m_peer(std::move(peer)) {}
        void on_connected() override
        {
            m_peer.disconnect(lt::errors::requires_ssl_connection, lt::operation_t::connect);
        }
        bool on_handshake(lt::span<char const>) override { return false; }
    };

    explicit Finder(std::shared_ptr<Wake> wake) : m_wake(std::move(wake)) {}

    std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const &peer) override
    {
        return std::make_shared<Nobody>(peer);
    }

    void on_add_peer(lt::tcp::endpoint const &peer, lt::peer_source_flags_t, lt::add_peer_flags_t flags) override
    {
        if (flags & filtered)
            return;
        std::lock_guard<std::mutex> guard(m_lock);
        if (std::find(m_found.begin(), m_found.end(), peer) == m_found.end())
            m_found.push_back(peer);
        m_wake->ring();
    }

    std::vector<lt::tcp::endpoint> take()
    {
        std::lock_guard<std::mutex> guard(m_lock);
        return std::exchange(m_found, {});
    }
};

struct Torrent {
    std::string id, dir, file, key;
    guint64 serial = 0;                 /* tells it from a later one of the same id */
    lt::torrent_handle handle;
    lt::info_hash_t hashes;
    bool seed = false;                  /* VIR_TORRENT_ADD_SEED: nothing may be written */
    bool verify = false;                /* VIR_TORRENT_ADD_CHECK: it is read first */
    bool metadata_only = false;         /* the first step of a magnet */
    bool waiting = false;               /* paused until it can connect */
    bool hold = false;                  /* connected for what it is told before it fetches */
    bool held = false;                  /* has been through that */
    bool renewing = false;              /* its peers are asked for, to begin anew with them */
    gint64 hold_at = 0;
    std::shared_ptr<Leaves> leaves;
    std::shared_ptr<VirTorrentHave> have;   /* of what is fetched; null: none */
    std::shared_ptr<Fill> fill;
    VirTorrentDelta *delta = nullptr;   /* filled */
    bool holes = false;                 /* there are such, says its dictionary */
    std::vector<bool> zeros;            /* pieces that are nothing else; empty: none */
    bool want_leaves = false;           /* resume data is asked for because of them */
    bool tell_metadata = false;         /* METADATA is still to be told */
    bool told_complete = false;
    int limit = -1;                     /* bytes/s while another one goes first; -1: none */
    std::vector<lt::tcp::endpoint> peers;   /* named by the caller or the magnet */
    std::vector<std::string> trackers;      /* named by the metainfo or the magnet */
    std::vector<std::string> webseeds;      /* likewise */
    VirTorrentTlsSearch *search = nullptr;  /* of a private swarm: for the dictionary */
    std::shared_ptr<Finder> finder;         /* whom the search asks */
    _VirTorrentEngine *owner = nullptr;     /* whom the search tells */
    VirTorrentMetainfo *info = nullptr;
    std::string dict;                   /* the info dictionary's bytes */
    GBytes *metainfo = nullptr;         /* with piece layers */
    guint32 pieces = 0;
    VirTorrentState state = VIR_TORRENT_CHECKING;
    std::string error;
    lt::torrent_status status;
    gint64 added = g_get_monotonic_time();
    gint64 announce_at = 0;             /* when to look for peers again, and */
    gint64 announce_pause = G_USEC_PER_SEC; /* how long after that */

    Torrent() = default;
    Torrent(Torrent const &) = delete;
    Torrent &operator=(Torrent const &) = delete;
    ~Torrent()
    {
        virTorrentTlsSearchFree(search);
        virTorrentMetainfoFree(info);
        if (fill)
            g_atomic_int_set(&fill->cancelled, TRUE);
        if (delta)
            virTorrentDeltaUnref(delta);
        if (metainfo)
            g_bytes_unref(metainfo);
    }
};

struct Pending {
    VirTorrentEventType type;
    std::string id;
    guint64 serial;
    std::string message;
    std::string data;
};

void
setError(GError **error, int code, std::string const &message)
{
    g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR, code, message.c_str());
}

std::string
format(char const *fmt, ...) G_GNUC_PRINTF(1, 2);

std::string
format(char const *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, args);
    va_end(args);
    return text;
}

/* Runs @func; what it throws becomes @error and @fallback. */
template <typename T, typename F>
T
guard(GError **error, T fallback, F func) noexcept
{
    try {
        return func();
    } catch (std::exception const &e) {
        g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED, e.what());
    } catch (...) {
        g_set_error_literal(error, VIR_TORRENT_ENGINE_ERROR, VIR_TORRENT_ENGINE_ERROR_FAILED,
                            "unknown exception");
    }
    return fallback;
}

template <typename F>
void
guard(F func) noexcept
{
    g_autoptr(GError) error = nullptr;

    if (!guard(&error, false, [&] { func(); return true; }))
        g_warning("%s", error->message);
}

/* --- files ---------------------------------------------------------------------- */

/* libtorrent's view of disk.h.  It asks in its network thread, and there its handlers
 * are called: the workers only post that there is something to dispatch.  Handlers are
 * moved, never copied: the space for hashes belongs to them.  While something is
 * outstanding the network thread does not end. */
class DiskIo final : public lt::disk_interface, lt::buffer_allocator_interface {
    lt::io_context &m_ios;
    VirTorrentDisk *m_disk = nullptr;
    std::vector<VirTorrentDiskFile *> m_files;  /* by storage_index_t; NULL: free */
    std::vector<std::uint64_t> m_sizes;         /* of each */
    std::vector<std::weak_ptr<lt::disk_observer>> m_waiting;
    std::optional<boost::asio::executor_work_guard<lt::io_context::executor_type>> m_work;
    std::size_t m_outstanding = 0;

    template <typename F> struct Call {
        DiskIo *io;
        F func;
    };

    template <typename F> static void run(VirTorrentDiskResult *result, gpointer opaque)
    {
        std::unique_ptr<Call<F>> const call(static_cast<Call<F> *>(opaque));

        guard([&] { call->func(*result); });
        if (--call->io->m_outstanding == 0)
            call->io->m_work.reset();
    }

    /* Calls @start with what the functions of disk.h take as their last arguments. */
    template <typename F, typename S> auto begin(F func, S start)
    {
        auto call = std::make_unique<Call<F>>(Call<F>{this, std::move(func)});

        if (m_outstanding++ == 0)
            m_work.emplace(m_ios.get_executor());
        return start(&DiskIo::run<F>, static_cast<gpointer>(call.release()));
    }

    static void notify(gpointer opaque)
    {
        auto io = static_cast<DiskIo *>(opaque);

        boost::asio::post(io->m_ios, [io] { io->dispatch(); });
    }

    void dispatch()
    {
        virTorrentDiskDispatch(m_disk);
        if (m_waiting.empty() || !virTorrentDiskMayWrite(m_disk))
            return;
        auto const waiting = std::exchange(m_waiting, {});
        for (auto const &weak : waiting) {
            if (auto observer = weak.lock())
                observer->on_disk();
        }
    }

    VirTorrentDiskFile *file(lt::storage_index_t index) const
    {
        return m_files[static_cast<std::uint32_t>(index)];
    }

    static std::uint32_t number(lt::piece_index_t piece)
    {
        return static_cast<std::uint32_t>(static_cast<int>(piece));
    }

    static lt::storage_error error(VirTorrentDiskResult const &result)
    {
        static lt::operation_t const ops[] = {lt::operation_t::file_open, lt::operation_t::file_read,
                                              lt::operation_t::file_write, lt::operation_t::file_stat};

        if (!result.err)
            return {};
        return {result.err == ENODATA ? lt::error_code(lt::errors::file_too_short)
                                      : lt::error_code(result.err, boost::system::system_category()),
                lt::file_index_t(0), ops[result.op]};
    }

    static lt::storage_error unsupported()
    {
        return {lt::error_code(ENOTSUP, boost::system::system_category()), lt::file_index_t(0),
                lt::operation_t::unknown};
    }

    static VirTorrentDiskFile *open(VirTorrentDisk *disk, lt::storage_params const &p);
    static lt::status_t judge(VirTorrentDiskResult const &result, std::uint64_t size, bool whole,
                              bool resume, lt::storage_error &err);

public:
    explicit DiskIo(lt::io_context &ios) : m_ios(ios)
    {
        g_autoptr(GError) err = nullptr;

        m_disk = virTorrentDiskNew(nullptr, notify, this, &err);
        if (!m_disk)
            throw std::runtime_error(err->message);
    }
    DiskIo(DiskIo const &) = delete;
    DiskIo &operator=(DiskIo const &) = delete;

    ~DiskIo() override
    {
        for (auto f : m_files) {
            if (f)
                virTorrentDiskClose(f);
        }
        virTorrentDiskFree(m_disk);
    }

    void free_disk_buffer(char *data) override
    {
        virTorrentDiskBufferFree(reinterpret_cast<guint8 *>(data));
    }

    lt::storage_holder new_torrent(lt::storage_params const &p, std::shared_ptr<void> const &) override
    {
        auto const slot = std::find(m_files.begin(), m_files.end(), nullptr);
        auto const index = static_cast<std::uint32_t>(slot - m_files.begin());

        if (slot == m_files.end()) {
            m_files.push_back(nullptr);
            m_sizes.push_back(0);
        }
        m_files[index] = open(m_disk, p);
        /* not total_size(), which in v2 goes to the end of the last piece */
        m_sizes[index] = static_cast<std::uint64_t>(p.files.file_size(lt::file_index_t(0)));
        return {lt::storage_index_t(index), *this};
    }

    void remove_torrent(lt::storage_index_t index) override
    {
        virTorrentDiskClose(std::exchange(m_files[static_cast<std::uint32_t>(index)], nullptr));
    }

    void abort(bool) override { }
    void submit_jobs() override { virTorrentDiskSubmit(m_disk); }
    void settings_updated() override { }
    void update_stats_counters(lt::counters &) const override { }
    std::vector<lt::open_file_state> get_status(lt::storage_index_t) const override { return {}; }

    void async_read(lt::storage_index_t storage, lt::peer_request const &r,
                    std::function<void(lt::disk_buffer_holder, lt::storage_error const &)> handler,
                    lt::disk_job_flags_t) override
    {
        auto done = [this, len = r.length, h = std::move(handler)](VirTorrentDiskResult &result) {
            auto data = reinterpret_cast<char *>(std::exchange(result.data, nullptr));

            h(data ? lt::disk_buffer_holder(*this, data, len) : lt::disk_buffer_holder(),
              error(result));
        };

        begin(std::move(done), [&](VirTorrentDiskFunc func, gpointer opaque) {
            virTorrentDiskRead(file(storage), number(r.piece), static_cast<guint32>(r.start),
                               static_cast<gsize>(r.length), func, opaque);
        });
    }

    bool async_write(lt::storage_index_t storage, lt::peer_request const &r, char const *buf,
                     std::shared_ptr<lt::disk_observer> observer,
                     std::function<void(lt::storage_error const &)> handler,
                     lt::disk_job_flags_t) override
    {
        auto done = [h = std::move(handler)](VirTorrentDiskResult &result) { h(error(result)); };
        bool const full = begin(std::move(done), [&](VirTorrentDiskFunc func, gpointer opaque) {
            return virTorrentDiskWrite(file(storage), number(r.piece), static_cast<guint32>(r.start),
                                       reinterpret_cast<guint8 const *>(buf),
                                       static_cast<gsize>(r.length), func, opaque);
        });

        if (full && observer)
            m_waiting.push_back(observer);
        return full;
    }

    void async_hash(lt::storage_index_t storage, lt::piece_index_t piece,
                    lt::span<lt::sha256_hash> v2, lt::disk_job_flags_t flags,
                    std::function<void(lt::piece_index_t, lt::sha1_hash const &,
                                       lt::storage_error const &)> handler) override
    {
        static_assert(sizeof(lt::sha256_hash) == VIR_TORRENT_HASH_SIZE, "hashes in a row");
        auto leaves = v2.empty() ? nullptr : reinterpret_cast<guint8 *>(v2.data());
        bool const v1(flags & lt::disk_interface::v1_hash);
        auto done = [piece, h = std::move(handler)](VirTorrentDiskResult &result) {
            h(piece, lt::sha1_hash(reinterpret_cast<char const *>(result.sha1)), error(result));
        };

        begin(std::move(done), [&](VirTorrentDiskFunc func, gpointer opaque) {
            virTorrentDiskHash(file(storage), number(piece), leaves, v1, func, opaque);
        });
    }

    void async_hash2(lt::storage_index_t storage, lt::piece_index_t piece, int offset,
                     lt::disk_job_flags_t,
                     std::function<void(lt::piece_index_t, lt::sha256_hash const &,
                                        lt::storage_error const &)> handler) override
    {
        auto hash = std::make_unique<lt::sha256_hash>();
        auto leaf = reinterpret_cast<guint8 *>(hash->data());
        auto done = [piece, hash = std::move(hash), h = std::move(handler)](VirTorrentDiskResult &r) {
            h(piece, *hash, error(r));
        };

        begin(std::move(done), [&](VirTorrentDiskFunc func, gpointer opaque) {
            virTorrentDiskHashBlock(file(storage), number(piece), static_cast<guint32>(offset), leaf,
                                    func, opaque);
        });
    }

    void async_clear_piece(lt::storage_index_t storage, lt::piece_index_t piece,
                           std::function<void(lt::piece_index_t)> handler) override
    {
        auto done = [piece, h = std::move(handler)](VirTorrentDiskResult &) { h(piece); };

        begin(std::move(done), [&](VirTorrentDiskFunc func, gpointer opaque) {
            virTorrentDiskClear(file(storage), number(piece), func, opaque);
        });
        submit_jobs();
    }

    void async_check_files(lt::storage_index_t storage, lt::add_torrent_params const *params,
                           lt::aux::vector<std::string, lt::file_index_t>,
                           std::function<void(lt::status_t, lt::storage_error const &)> handler) override
    {
        bool const seed = params && params->flags & lt::torrent_flags::seed_mode;
        bool const resume = seed || (params && !params->have_pieces.empty());
        bool const whole = seed || (resume && params->have_pieces.count() > 0);
        auto const size = m_sizes[static_cast<std::uint32_t>(storage)];
        auto done = [=, h = std::move(handler)](VirTorrentDiskResult &result) {
            lt::storage_error err;
            auto const status = judge(result, size, whole, resume, err);

            h(status, err);
        };

        begin(std::move(done), [&](VirTorrentDiskFunc func, gpointer opaque) {
            virTorrentDiskStat(file(storage), func, opaque);
        });
    }

    /* Nothing is kept that would have to be flushed; reports when nothing can write any more. */
    void async_release_files(lt::storage_index_t storage, std::function<void()> handler) override
    {
        if (!handler)
            return;
        begin([h = std::move(handler)](VirTorrentDiskResult &) { h(); },
              [&](VirTorrentDiskFunc func, gpointer opaque) {
                  virTorrentDiskFence(file(storage), func, opaque);
              });
    }

    void async_stop_torrent(lt::storage_index_t storage, std::function<void()> handler) override
    {
        async_release_files(storage, std::move(handler));
    }

    /* The caller of virTorrentEngineRelocate() has moved it. */
    void async_rename_file(lt::storage_index_t storage, lt::file_index_t index, std::string name,
                           std::function<void(std::string const &, lt::file_index_t,
                                              lt::storage_error const &)> handler) override
    {
        g_autofree char *dir = g_path_get_dirname(name.c_str());
        g_autofree char *base = g_path_get_basename(name.c_str());

        virTorrentDiskRelocate(file(storage), dir, base);
        boost::asio::post(m_ios, [=, h = std::move(handler)] { h(name, index, {}); });
    }

    void async_set_file_priority(lt::storage_index_t,
                                 lt::aux::vector<lt::download_priority_t, lt::file_index_t> prio,
                                 std::function<void(lt::storage_error const &,
                                                    lt::aux::vector<lt::download_priority_t,
                                                                    lt::file_index_t>)> handler) override
    {
        boost::asio::post(m_ios, [p = std::move(prio), h = std::move(handler)] { h({}, p); });
    }

    /* Files are moved and removed by the pool alone. */
    void async_move_storage(lt::storage_index_t, std::string path, lt::move_flags_t,
                            std::function<void(lt::status_t, std::string const &,
                                               lt::storage_error const &)> handler) override
    {
        boost::asio::post(m_ios, [p = std::move(path), h = std::move(handler)] {
            h(lt::status_t::fatal_disk_error, p, unsupported());
        });
    }

    void async_delete_files(lt::storage_index_t, lt::remove_flags_t,
                            std::function<void(lt::storage_error const &)> handler) override
    {
        boost::asio::post(m_ios, [h = std::move(handler)] { h(unsupported()); });
    }
};

VirTorrentDiskFile *
DiskIo::open(VirTorrentDisk *disk, lt::storage_params const &p)
{
    lt::file_storage const &files = p.mapped_files ? *p.mapped_files : p.files;
    std::string const path = files.file_path(lt::file_index_t(0), p.path);
    g_autofree char *dir = g_path_get_dirname(path.c_str());
    g_autofree char *base = g_path_get_basename(path.c_str());

    return virTorrentDiskOpen(disk, dir, base, static_cast<guint64>(p.files.file_size(lt::file_index_t(0))),
                              static_cast<guint64>(p.files.total_size()),
                              static_cast<guint32>(p.files.piece_length()),
                              p.files.v2() ? VIR_TORRENT_DISK_SHA256 : VIR_TORRENT_DISK_SHA1);
}

/* Whether what is on disk can be what resume data say (@resume), of which there are pieces
 * (@whole). */
lt::status_t
DiskIo::judge(VirTorrentDiskResult const &result, std::uint64_t size, bool whole, bool resume,
              lt::storage_error &err)
{
    bool const missing = result.err == ENOENT;

    if (result.err && !missing) {
        err = error(result);
        return lt::status_t::fatal_disk_error;
    }
    if (!missing && result.size > size) {
        err = {lt::error_code(EFBIG, boost::system::system_category()), lt::file_index_t(0),
               lt::operation_t::file_stat};
        return lt::status_t::fatal_disk_error;
    }
    if (missing ? !whole : resume && result.size == size)
        return lt::status_t::no_error;
    if (resume)
        err = {lt::error_code(lt::errors::mismatching_file_size), lt::file_index_t(0),
               lt::operation_t::file_stat};
    return lt::status_t::need_full_check;
}

/* --- settings ----------------------------------------------------------------- */

int
clampLimit(guint64 bytes)
{
    return static_cast<int>(std::min<guint64>(bytes, INT_MAX));
}

/* The addresses to listen on; @where: one, or empty for all. */
GStrv
listenAddresses(std::string const &where)
{
    if (where.empty())
        return virTorrentListenAddresses();
    return g_strsplit(where.c_str(), ",", 1);
}

/* What makes a client for home lines one for a data centre; only what differs
 * from libtorrent's own defaults. */
void
setLan(lt::settings_pack &p)
{
    using sp = lt::settings_pack;

    p.set_str(sp::user_agent, PACKAGE_NAME "/" PACKAGE_VERSION);
    p.set_str(sp::peer_fingerprint, "-TP0100-");
    p.set_int(sp::alert_mask, static_cast<int>(static_cast<std::uint32_t>(
        lt::alert_category::error | lt::alert_category::status | lt::alert_category::storage |
        lt::alert_category::peer | lt::alert_category::dht)));
    /* 1,000 torrents that are added at once make 3 alerts each */
    p.set_int(sp::alert_queue_size, 100000);

    /* Nothing leads out of the operator's network unless he names it. */
    p.set_str(sp::dht_bootstrap_nodes, "");
    p.set_bool(sp::enable_upnp, false);
    p.set_bool(sp::enable_natpmp, false);
    p.set_str(sp::announce_ip, "");
    p.set_bool(sp::anonymous_mode, false);
    p.set_bool(sp::listen_system_port_fallback, false);

    /* TCP alone: uTP yields to every other flow and costs twice the time on a
     * LAN; encryption against traffic shapers costs handshakes. */
    p.set_bool(sp::enable_outgoing_utp, false);
    p.set_bool(sp::enable_incoming_utp, false);
    p.set_int(sp::out_enc_policy, sp::pe_disabled);

    /* Short queues spread the origin's copies over the hosts: measured 1.30 of
     * the lower bound instead of 1.61.  How long they may be the sender says
     * (depth.h); libtorrent's own bound does not hold against that, so this one is
     * only for those who say nothing. */
    p.set_int(sp::request_queue_time, 1);
    p.set_int(sp::max_out_request_queue, 16);
    p.set_int(sp::whole_pieces_threshold, 0);

    /* With N hosts each piece is told of N times to each: 4 % of the wire at N = 32.
     * Who has it already need not know. */
    p.set_bool(sp::send_redundant_have, false);

    /* What waits in a send buffer cannot be asked of anybody else any more, and what
     * an origin sends next is late by it: 50 ms at the rate of the moment instead
     * of half a second (where the wire is quick from the start: see pace.h).  On a quick
     * wire that is more than the usual bound. */
    p.set_int(sp::send_buffer_watermark_factor, 5);
    p.set_int(sp::send_buffer_low_watermark, VIR_TORRENT_PACE_LEAST);
    p.set_int(sp::send_buffer_watermark, 4 * 1024 * 1024);

    /* Pieces that are verified at the same time: two for each thread of disk.c. */
    p.set_int(sp::hashing_threads, 4);

    /* Hosts trust each other: everybody is served at once.  Slots and the local
     * peer class, which libtorrent exempts from limits, go together (see
     * applySettings on peer classes). */
    p.set_int(sp::unchoke_slots_limit, -1);
    p.set_int(sp::connections_limit, 1000);

    /* Limits are dealt out once a tick: at 500 ms a connection with a short
     * queue reached half of them. */
    p.set_int(sp::tick_interval, 100);

    /* Several hosts behind one address (containers, tests), quick first
     * connections, quick return of a host that was restarted. */
    p.set_bool(sp::allow_multiple_connections_per_ip, true);
    p.set_bool(sp::smooth_connects, false);
    p.set_int(sp::connection_speed, 200);
    p.set_int(sp::torrent_connect_boost, 100);
    p.set_int(sp::listen_queue_size, 128);
    p.set_int(sp::min_reconnect_time, 1);
    p.set_int(sp::max_failcount, 10);
    p.set_int(sp::peer_connect_timeout, 5);

    /* Torrents are not queued (they are added without auto_managed), but these
     * also bound the announcing of seeds. */
    p.set_int(sp::active_downloads, -1);
    p.set_int(sp::active_seeds, -1);
    p.set_int(sp::active_checking, -1);
    p.set_int(sp::active_limit, INT_MAX);
    p.set_int(sp::active_dht_limit, INT_MAX);
    p.set_int(sp::active_tracker_limit, INT_MAX);
    p.set_int(sp::active_lsd_limit, INT_MAX);

    /* A DHT of private addresses: many nodes of one /24, node ids that no
     * public address can prove, loopback; more than 5 packets a second from
     * a neighbour with 1,000 masters is no attack. */
    p.set_bool(sp::dht_restrict_routing_ips, false);
    p.set_bool(sp::dht_restrict_search_ips, false);
    p.set_bool(sp::dht_ignore_dark_internet, false);
    p.set_bool(sp::dht_prefer_verified_node_ids, false);
    p.set_bool(sp::dht_enforce_node_id, false);
    p.set_int(sp::dht_block_ratelimit, 1000);
    p.set_int(sp::dht_upload_rate_limit, 200000);
    p.set_int(sp::dht_max_torrents, 100000);
    p.set_int(sp::dht_announce_interval, 300);
    /* libtorrent asks each peer that it hears of whether it is a node of the DHT, too, each
     * time that it hears of it.  With 32 hosts of which all answers told, these questions
     * took 700 KB of each link when a fetch began, and again at its end.  A few peers
     * are enough to begin with; they tell of others (PEX). */
    p.set_int(sp::dht_max_peers_reply, 6);
    p.set_int(sp::local_service_announce_interval, 60);

    /* Several trackers are for safety, not for sharing the load. */
    p.set_bool(sp::announce_to_all_trackers, true);
    p.set_bool(sp::announce_to_all_tiers, true);
    p.set_int(sp::stop_tracker_timeout, 1);

    /* What a stranger may make us allocate. */
    p.set_int(sp::max_piece_count, VIR_TORRENT_PIECES_MAX);
    p.set_int(sp::max_metadata_size, 32 * 1024 * 1024);
}

void
setFrom(lt::settings_pack &p, VirTorrentEngineSettings const &s)
{
    using sp = lt::settings_pack;

    p.set_bool(sp::enable_dht, s.dht);
    p.set_bool(sp::enable_lsd, s.lsd);
    p.set_int(sp::upload_rate_limit, clampLimit(s.upload_limit));
    p.set_int(sp::download_rate_limit, clampLimit(s.download_limit));
    /* so that others see the address they may answer to */
    p.set_str(sp::outgoing_interfaces, s.listen_address ? s.listen_address : "");
}

/* The addresses of "10.0.0.0/16". */
void
addNetwork(lt::ip_filter &filter, char const *cidr, std::uint32_t flags)
{
    g_autoptr(GInetAddressMask) mask = g_inet_address_mask_new_from_string(cidr, nullptr);
    GInetAddress *base = g_inet_address_mask_get_address(mask);
    guint const bits = g_inet_address_mask_get_length(mask);
    gsize const size = g_inet_address_get_native_size(base);
    std::vector<guint8> first(size), last(size);

    memcpy(first.data(), g_inet_address_to_bytes(base), size);
    last = first;
    for (guint bit = bits; bit < size * 8; bit++)
        last[bit / 8] |= 0x80 >> (bit % 8);

    if (size == 4) {
        lt::address_v4::bytes_type a, b;

        std::copy(first.begin(), first.end(), a.begin());
        std::copy(last.begin(), last.end(), b.begin());
        filter.add_rule(lt::address_v4(a), lt::address_v4(b), flags);
    } else {
        lt::address_v6::bytes_type a, b;

        std::copy(first.begin(), first.end(), a.begin());
        std::copy(last.begin(), last.end(), b.begin());
        filter.add_rule(lt::address_v6(a), lt::address_v6(b), flags);
    }
}

lt::ip_filter
allowFilter(char const *const *allow)
{
    lt::ip_filter filter;

    if (!allow || !allow[0])
        return filter;
    addNetwork(filter, "0.0.0.0/0", lt::ip_filter::blocked);
    addNetwork(filter, "::/0", lt::ip_filter::blocked);
    for (; *allow; allow++)
        addNetwork(filter, *allow, 0);
    return filter;
}

bool
parseEndpoint(char const *text, lt::tcp::endpoint &out)
{
    g_autofree char *host = nullptr;
    guint16 port;
    lt::error_code ec;

    if (!virTorrentAddressParse(text, nullptr, nullptr) || !virTorrentHostParse(text, &host, &port))
        return false;
    out = lt::tcp::endpoint(lt::make_address(host, ec), port);
    return !ec;
}

/* --- showing pieces one by one (reveal.h) ------------------------------------------ */

/* In the extension handshake: that we know of this, or that we do it. */
constexpr char REVEAL_KEY[] = "tp_reveal";
constexpr int REVEAL_KNOWN = 1, REVEAL_DOING = 2;

/* Message ids of BEP 3 and BEP 6. */
constexpr int MSG_HAVE = 4, MSG_HAVE_ALL = 14;

/* Peers above which small messages may wait for each other: each piece is told of to all
 * of them, a packet for each takes more of wire and processors than it saves time. */
constexpr std::size_t FEW_PEERS = 16;

/* Of BEP 10, and in our extension handshake: milliseconds that connecting took. */
constexpr int MSG_EXTENDED = 20;
constexpr char TRIP_KEY[] = "tp_trip";

/* What pace.h finds out is for the session; in the network thread. */
struct Pace {
    VirTorrentPace pace = {};
    lt::session_handle session;

    explicit Pace(lt::session_handle s) : session(std::move(s)) {}

    void sent(guint32 *peer, int bytes)
    {
        lt::settings_pack p;

        if (!virTorrentPaceSent(&pace, peer, g_get_monotonic_time(), static_cast<guint32>(bytes)))
            return;
        p.set_int(lt::settings_pack::send_buffer_low_watermark, static_cast<int>(pace.watermark));
        guard([&] { session.apply_settings(std::move(p)); });
    }
};

/* Of each torrent; lives in the network thread.  On a torrent that was complete
 * when it was added it decides what peers see; on others it keeps a connection
 * to an origin that seems to have nothing.
 *
 * The origin cannot keep libtorrent from saying that it has everything.  It has
 * said REVEAL_DOING before, and a host that knows of it ignores the first time. */
class Revealer : public lt::torrent_plugin, public std::enable_shared_from_this<Revealer> {
    class Peer;

    VirTorrentReveal *m_reveal = nullptr;   /* of an origin */
    bool const m_known;                     /* not while only the dictionary or leaves are fetched */
    bool const m_hold;                      /* leaves: who says that he has all is believed */
    std::vector<Peer *> m_peers;
    std::shared_ptr<Pace> const m_pace;     /* of the session */
    bool m_few = true;                      /* peers */

    void show();

public:
    Revealer(Torrent const &t, std::shared_ptr<Pace> pace)
        : m_known(!t.metadata_only && !t.hold), m_hold(t.hold), m_pace(std::move(pace))
    {
        /* a way to measure what all of this is good for */
        if (t.seed && t.info && !g_getenv("TORRENTPOOL_SHOW_ALL"))
            m_reveal = virTorrentRevealNew(t.info->size, t.info->piece_length, g_random_int());
    }
    Revealer(Revealer const &) = delete;
    Revealer &operator=(Revealer const &) = delete;
    ~Revealer() override { virTorrentRevealFree(m_reveal); }

    std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const &pc) override;
    void tick() override;
    void on_piece_pass(lt::piece_index_t piece) override;
};

class Revealer::Peer : public lt::peer_plugin {
    std::shared_ptr<Revealer> m_torrent;
    lt::peer_connection_handle m_pc;
    VirTorrentRevealHost *m_host = nullptr; /* to an origin */
    bool m_doing = false;                   /* we said so */
    bool m_remote_knows = false, m_remote_doing = false;
    bool m_ignored = false;                 /* its first "have all" */
    bool m_shook = false;                   /* its extension handshake came */
    lt::entry m_handshake;                  /* what is said again to say another depth */
    VirTorrentDepth m_depth = {};
    gint64 const m_began = g_get_monotonic_time();

    static double seconds() { return static_cast<double>(g_get_monotonic_time()) / G_USEC_PER_SEC; }
    guint32 m_paced = 0;                    /* pace.h's */

    void gone()
    {
        auto &peers = m_torrent->m_peers;

        peers.erase(std::remove(peers.begin(), peers.end(), this), peers.end());
        if (m_host)
            virTorrentRevealLost(m_torrent->m_reveal, m_host);
        m_host = nullptr;
    }

    /* Two hosts that hear of each other at the same time call each other.  When
     * their listen ports become known libtorrent closes the one of the two
     * connections that is incoming - on both sides, so that none is left, for
     * seconds.  So the one that the lower address called is kept, unless that is
     * not through yet. */
    void settle(int port)
    {
        lt::tcp::endpoint const here = m_pc.local_endpoint();
        lt::tcp::endpoint const there(m_pc.remote().address(), static_cast<std::uint16_t>(port));

        if (m_pc.is_outgoing())
            return;
        for (Peer *other : m_torrent->m_peers) {
            if (!other->m_pc.is_outgoing() || other->m_pc.remote() != there ||
                other->m_pc.is_disconnecting())
                continue;
            if (there < here || other->m_pc.is_connecting())
                other->m_pc.disconnect(lt::errors::duplicate_peer_id, lt::operation_t::bittorrent);
            return;
        }
    }

    /* How far the other side may ask ahead; by a handshake that is otherwise as it was.  A
     * client that does not know us is not told twice. */
    void sayDepth(guint32 bytes)
    {
        bool const may = m_remote_knows && m_handshake.type() == lt::entry::dictionary_t;
        guint const depth = may ? virTorrentDepthSent(&m_depth, bytes, seconds()) : 0;
        std::vector<char> dict, msg(6);

        if (!depth)
            return;
        m_handshake["reqq"] = static_cast<int>(depth);
        lt::bencode(std::back_inserter(dict), m_handshake);
        guint32 const length = GUINT32_TO_BE(static_cast<guint32>(dict.size()) + 2);
        memcpy(msg.data(), &length, sizeof(length));
        msg[4] = MSG_EXTENDED;
        msg[5] = 0;
        msg.insert(msg.end(), dict.begin(), dict.end());
        m_pc.send_buffer(msg.data(), static_cast<int>(msg.size()));
    }

    /* something happened to m_host */
    bool show() const
    {
        m_torrent->show();
        return false;
    }

public:
    Peer(std::shared_ptr<Revealer> torrent, lt::peer_connection_handle const &pc)
        : m_torrent(std::move(torrent)), m_pc(pc)
    {
        m_torrent->m_peers.push_back(this);
        if (m_torrent->m_reveal)
            m_host = virTorrentRevealAdd(m_torrent->m_reveal, this);
    }
    Peer(Peer const &) = delete;
    Peer &operator=(Peer const &) = delete;
    ~Peer() override { gone(); }

    /* We have it.  libtorrent does not say so to whom it believes to have it, too
     * (send_redundant_have); but who shows pieces has to know. */
    void answer(lt::piece_index_t piece)
    {
        if (m_remote_doing && m_pc.has_piece(piece))
            showPiece(static_cast<guint32>(static_cast<int>(piece)));
    }

    void showPiece(guint32 piece)
    {
        char const msg[] = { 0, 0, 0, 5, MSG_HAVE,
                             static_cast<char>(piece >> 24), static_cast<char>(piece >> 16),
                             static_cast<char>(piece >> 8), static_cast<char>(piece) };

        m_pc.send_buffer(msg, sizeof(msg));
    }

    void showAll()
    {
        char const msg[] = { 0, 0, 0, 1, MSG_HAVE_ALL };

        m_pc.send_buffer(msg, sizeof(msg));
    }

    /* A message of a few bytes - "have", a request - would wait for the acknowledgement of
     * what went before, which the other side holds back for 40 ms where it has
     * nothing to say.  libtorrent has no setting for this. */
    void sendAtOnce(bool at_once) const
    {
        lt::error_code ec;

        if (auto const peer = m_pc.native_handle())
            peer->get_socket().set_option(boost::asio::ip::tcp::no_delay(at_once), ec);
        if (ec)
            g_debug("TCP_NODELAY: %s", ec.message().c_str());
    }

    void add_handshake(lt::entry &handshake) override
    {
        sendAtOnce(m_torrent->m_few);
        m_doing = m_host && virTorrentRevealActive(m_torrent->m_reveal);
        if (m_torrent->m_known)
            handshake[REVEAL_KEY] = m_doing ? REVEAL_DOING : REVEAL_KNOWN;
        handshake["reqq"] = VIR_TORRENT_DEPTH_STRANGER;
        if (m_depth.trip > 0)
            handshake[TRIP_KEY] = static_cast<int>(m_depth.trip * 1000);
        m_handshake = handshake;
        for (auto key : {"p", "yourip", "complete_ago", "tp_leaves", TRIP_KEY})
            m_handshake.dict().erase(key);
    }

    void on_connected() override
    {
        m_depth.trip = static_cast<double>(g_get_monotonic_time() - m_began) / G_USEC_PER_SEC;
    }

    bool on_extension_handshake(lt::bdecode_node const &handshake) override
    {
        auto const value = handshake.dict_find_int_value(REVEAL_KEY, 0);

        if (std::exchange(m_shook, true))
            return true;
        if (!m_pc.is_outgoing())
            m_depth.trip = static_cast<double>(handshake.dict_find_int_value(TRIP_KEY, 0)) / 1000;
        m_depth.trip = CLAMP(m_depth.trip, 0, 1);
        m_remote_knows = m_torrent->m_known && value >= REVEAL_KNOWN;
        m_remote_doing = !m_torrent->m_hold && value == REVEAL_DOING;
        settle(static_cast<int>(handshake.dict_find_int_value("p", 0)));
        /* it need not say first that it is interested, nor ever again */
        if (m_remote_knows)
            m_pc.maybe_unchoke_this_peer();
        sayDepth(0);
        if (!m_remote_knows || !m_doing)
            return true;
        virTorrentRevealSteer(m_host);
        show();
        return true;
    }

    /* It will be, with the next piece: choking it in between costs two messages'
     * time for each piece. */
    bool on_not_interested() override { return m_remote_knows; }

    bool can_disconnect(lt::error_code const &ec) override
    {
        return !m_remote_doing || ec != lt::errors::uninteresting_upload_peer;
    }

    bool on_have_all() override
    {
        /* another origin has given nothing to anybody by that */
        if (m_host && m_remote_doing)
            return false;
        if (m_remote_doing && !m_ignored)
            return m_ignored = true;
        if (!m_host)
            return false;
        virTorrentRevealHasAll(m_torrent->m_reveal, m_host);
        return show();
    }

    bool on_have(lt::piece_index_t piece) override
    {
        if (!m_host)
            return false;
        virTorrentRevealHas(m_torrent->m_reveal, m_host, static_cast<guint32>(static_cast<int>(piece)));
        return show();
    }

    bool on_bitfield(lt::bitfield const &bits) override
    {
        if (!m_host)
            return false;
        for (int i = 0; i < bits.size(); i++) {
            if (bits[i])
                virTorrentRevealHas(m_torrent->m_reveal, m_host, static_cast<guint32>(i));
        }
        return show();
    }

    void sent_piece(lt::peer_request const &r) override
    {
        sayDepth(static_cast<guint32>(r.length));
        m_torrent->m_pace->sent(&m_paced, r.length);
        if (!m_host)
            return;
        virTorrentRevealSent(m_host, static_cast<guint32>(static_cast<int>(r.piece)),
                             static_cast<guint32>(r.length));
        show();
    }

    void on_disconnect(lt::error_code const &) override
    {
        gone();
        show();
    }
};

std::shared_ptr<lt::peer_plugin>
Revealer::new_connection(lt::peer_connection_handle const &pc)
{
    if (pc.type() != lt::connection_type::bittorrent)
        return nullptr;
    return std::make_shared<Peer>(shared_from_this(), pc);
}

void
Revealer::tick()
{
    bool const few = m_peers.size() <= FEW_PEERS;

    if (few != m_few) {
        m_few = few;
        for (Peer *peer : m_peers)
            peer->sendAtOnce(few);
    }
    show();
}

void
Revealer::on_piece_pass(lt::piece_index_t piece)
{
    for (Peer *peer : m_peers)
        peer->answer(piece);
}

void
Revealer::show()
{
    double const now = static_cast<double>(g_get_monotonic_time()) / G_USEC_PER_SEC;
    gpointer peer;
    guint32 piece;

    while (m_reveal) {
        switch (virTorrentRevealNext(m_reveal, now, &peer, &piece)) {
        case VIR_TORRENT_REVEAL_PIECE:
            static_cast<Peer *>(peer)->showPiece(piece);
            break;
        case VIR_TORRENT_REVEAL_ALL:
            static_cast<Peer *>(peer)->showAll();
            break;
        default:
            return;
        }
    }
}

} /* namespace */

/* --- the engine ------------------------------------------------------------------ */

/* An address from which wrong data came.  libtorrent bans that port of it, since
 * several hosts may share an address; a second time all of it is left alone for a
 * while, as whoever calls has another port each time. */
struct Liar {
    int times = 0;
    gint64 until = 0;
};

static gint64 const LIAR_PAUSE = 3600 * static_cast<gint64>(G_USEC_PER_SEC);

struct _VirTorrentEngine : std::enable_shared_from_this<_VirTorrentEngine> {
    VirTorrentEventFunc func = nullptr;
    gpointer opaque = nullptr;
    bool freed = false;
    std::shared_ptr<_VirTorrentEngine> self;    /* the owner's reference */
    std::shared_ptr<Wake> wake = std::make_shared<Wake>();
    std::unique_ptr<lt::session> session;
    GSource *alert_source = nullptr, *tick_source = nullptr;
    guint16 port = 0;
    std::string listen;                         /* the address that was asked for; empty: all */
    std::string listening;                      /* what the session was told, port included */
    gint64 look_at = 0;                         /* when to look for new addresses */
    lt::ip_filter filter;
    std::vector<std::string> allow;             /* the same, for the kernel */
    std::map<lt::address, Liar> liars;
    bool dht = false, pex = false;
    std::vector<std::pair<std::string, int>> bootstrap;
    gint64 bootstrap_at = 0, bootstrap_pause = G_USEC_PER_SEC;
    gint64 hurry_until = 0;                     /* the clock ticks faster */
    gint64 dht_nodes = 0;                       /* at the last count, and */
    gint64 count_at = 0;                        /* when to count again */
    std::vector<std::string> trackers, webseeds;
    std::string leaves;                         /* where leaves are kept; empty: nowhere */
    VirTorrentTls *tls = nullptr;               /* of a private swarm */
    std::shared_ptr<TlsSession> door;           /* likewise */
    gint64 reload_at = 0;                       /* when to look for new certificates */
    std::map<std::string, std::unique_ptr<Torrent>> torrents;
    std::map<lt::torrent_handle, Torrent *> handles;
    std::deque<Pending> pending;
    VirTorrentQueue *queue_first = virTorrentQueueNew();
    guint64 serials = 0;

    ~_VirTorrentEngine()
    {
        stop();
        virTorrentQueueFree(queue_first);
        virTorrentTlsUnref(tls);
    }

    bool start(VirTorrentEngineSettings const &s, GError **error);
    void stop();
    bool listenOn(VirTorrentEngineSettings const &s, GError **error);
    int listenOn(char const *const *addresses, guint16 wanted);
    void followAddresses();
    void guardPorts();
    void apply(VirTorrentEngineSettings const &s);
    void onAlerts();
    void onAlert(lt::alert *alert);
    void onTick();
    void hurry();
    void lookForNodes(gint64 now);
    void deliver();

    Torrent *find(char const *id);
    Torrent *find(lt::torrent_handle const &handle);
    void start(Torrent &t, lt::add_torrent_params params);
    void drop(Torrent &t, bool successor = false);
    bool identify(Torrent &t, VirTorrentMetainfoRaw &raw, char const *dict, gsize len, GError **error);
    void fail(Torrent &t, std::string const &message);
    void queue(Torrent &t, VirTorrentEventType type);
    void onMetadata(Torrent &t);
    void onPeers(Torrent &t, std::vector<lt::tcp::endpoint> peers);
    void begin(Torrent &t);
    void renew(Torrent &t);
    std::vector<Predecessor> predecessors(Torrent const &t) const;
    bool isWorthAsking(Torrent const &t) const;
    void advance(Torrent &t, gint64 now);
    void startFill(Torrent &t, std::vector<Predecessor> masters);
    void endFill(Torrent &t);
    void applyKnown(Torrent &t, lt::add_torrent_params &params);
    void onLeaves(Torrent &t, lt::add_torrent_params const &params);
    void onStatus(lt::torrent_status const &status);
    void applyFilter();
    void onLiar(lt::address const &address);
    void forgiveLiars(gint64 now);
    void onError(lt::torrent_handle const &handle, lt::error_code const &ec, char const *file);
    bool learnMetainfo(Torrent &t);
    void onStats(gint64 nodes);
    void onStranger(lt::sha1_hash const &hash, lt::tcp::endpoint const &peer);
    void announce(Torrent &t, gint64 now);
    void discover(Torrent &t);
    std::vector<std::string> trackersOf(Torrent const &t) const;
    std::vector<std::string> webseedsOf(Torrent const &t) const;
    void prioritize(gint64 now);
    void searchTls(Torrent &t);
    void advanceSearch(Torrent &t);
    void learnDict(Torrent &t, GBytes *dict);
    void startData(Torrent &t, std::shared_ptr<lt::torrent_info const> const &got,
                   std::vector<lt::tcp::endpoint> peers);
};

using Engine = _VirTorrentEngine;

static gboolean
onAlertSource(gint, GIOCondition, gpointer opaque)
{
    std::shared_ptr<Engine> e = static_cast<Engine *>(opaque)->self;

    guard([&] { e->onAlerts(); });
    return G_SOURCE_CONTINUE;
}

/* Set by its ready time alone. */
static gboolean
onTickSource(GSource *source, GSourceFunc, gpointer opaque)
{
    std::shared_ptr<Engine> e = static_cast<Engine *>(opaque)->self;
    gint64 const now = g_source_get_time(source);

    g_source_set_ready_time(source, now + (now < e->hurry_until ? TICK_HURRY : TICK));
    guard([&] { e->onTick(); });
    return G_SOURCE_CONTINUE;
}

static std::shared_ptr<lt::torrent_info>
loadMetainfo(guint8 const *data, gsize len, GError **error);

/* Before a session may end, nobody may stand in its door. */
static void
endTls(lt::session &session, TlsSession &door)
{
    gint64 const end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    lt::settings_pack p;

    p.set_str(lt::settings_pack::listen_interfaces, "");
    session.apply_settings(p);
    session.pause();
    session.listen_port();
    virTorrentTlsDoorClose(door.m_door);
    while (!virTorrentTlsDoorIsEmpty(door.m_door) && g_get_monotonic_time() < end)
        g_usleep(5000);
}

static GSourceFuncs tickFuncs = { nullptr, nullptr, onTickSource, nullptr, nullptr, nullptr };

bool
Engine::start(VirTorrentEngineSettings const &s, GError **error)
{
    g_autoptr(GMainContext) context = g_main_context_ref_thread_default();
    lt::session_params params;

    if (wake->fd < 0) {
        setError(error, VIR_TORRENT_ENGINE_ERROR_FAILED, format("eventfd: %s", g_strerror(errno)));
        return false;
    }
    if (s.session_state) {
        gsize len;
        auto data = static_cast<char const *>(g_bytes_get_data(s.session_state, &len));

        /* What is damaged is as good as none. */
        try {
            params.dht_state = lt::read_session_params({data, static_cast<std::ptrdiff_t>(len)},
                                                       lt::session_handle::save_dht_state).dht_state;
        } catch (std::exception const &e) {
            g_info("saved session state is not used: %s", e.what());
        }
    }
    leaves = s.leaves ? s.leaves : "";
    tls = s.tls ? virTorrentTlsRef(s.tls) : nullptr;
    setLan(params.settings);
    setFrom(params.settings, s);
    /* nothing is listened on before it is known where */
    params.settings.set_str(lt::settings_pack::listen_interfaces, "");
    params.settings.set_bool(lt::settings_pack::enable_dht, false);
    params.settings.set_bool(lt::settings_pack::enable_lsd, false);
    /* libtorrent's own map files, whose pages then count as ours and are dirty behind our
     * back when a file is complete, or do everything in the network thread. */
    params.disk_io_constructor = [](lt::io_context &ios, lt::settings_interface const &,
                                    lt::counters &) -> std::unique_ptr<lt::disk_interface> {
        return std::make_unique<DiskIo>(ios);
    };

    session = std::make_unique<lt::session>(std::move(params), lt::session_flags_t{});
    session->set_alert_notify([w = wake] { w->ring(); });
    auto const pace = std::make_shared<Pace>(lt::session_handle(*session));
    session->add_extension([pace](lt::torrent_handle const &, lt::client_data_t data) {
        /* within add_torrent(), whose caller waits */
        Torrent const *t = data.get<Torrent>();

        return t ? std::make_shared<Revealer>(*t, pace) : std::shared_ptr<Revealer>();
    });

    if (tls) {
        door = std::make_shared<TlsSession>();
        session->add_extension(door);
    }

    /* Everybody is in the global class alone, none in the one of local peers:
     * limits and slots hold on a LAN too. */
    lt::ip_filter classes;
    auto const global = 1U << static_cast<std::uint32_t>(lt::session_handle::global_peer_class_id);
    addNetwork(classes, "0.0.0.0/0", global);
    addNetwork(classes, "::/0", global);
    session->set_peer_class_filter(classes);

    apply(s);
    if (!listenOn(s, error))
        return false;
    /* what needs a socket */
    lt::settings_pack on;
    setFrom(on, s);
    session->apply_settings(on);

    alert_source = g_unix_fd_source_new(wake->fd, G_IO_IN);
    g_source_set_callback(alert_source, G_SOURCE_FUNC(onAlertSource), this, nullptr);
    g_source_attach(alert_source, context);
    tick_source = g_source_new(&tickFuncs, sizeof(GSource));
    g_source_set_callback(tick_source, nullptr, this, nullptr);
    g_source_attach(tick_source, context);
    hurry();
    return true;
}

void
Engine::stop()
{
    for (GSource **source : {&alert_source, &tick_source}) {
        if (!*source)
            continue;
        g_source_destroy(*source);
        g_source_unref(*source);
        *source = nullptr;
    }
    handles.clear();
    torrents.clear();
    pending.clear();
    if (session) {
        session->set_alert_notify({});
        if (door) {
            reaper.take([s = std::shared_ptr<lt::session>(std::move(session)), d = door] { endTls(*s, *d); });
        } else {
            auto proxy = std::make_shared<lt::session_proxy>(session->abort());

            /* Whoever holds libtorrent's thread last joins it.  If both let go at the
             * same time neither does, which ends the process: one after the other. */
            session.reset();
            reaper.take([p = std::move(proxy)]() mutable { p.reset(); });
        }
        session.reset();
    }
}

/* Tells the session to listen; 0 or why not. */
int
Engine::listenOn(char const *const *addresses, guint16 wanted)
{
    g_autofree char *interfaces = virTorrentListenFormat(addresses, wanted, tls != nullptr);
    lt::settings_pack p;
    int const err = virTorrentListenProbe(addresses, wanted, tls != nullptr);

    if (err)
        return err;
    p.set_int(lt::settings_pack::max_retry_port_bind, 0);
    p.set_str(lt::settings_pack::listen_interfaces, interfaces);
    session->apply_settings(p);
    /* asks the network thread, after the above */
    if (session->listen_port() != wanted ||
        (tls && session->ssl_listen_port() != VIR_TORRENT_TLS_PORT(wanted)))
        return EADDRINUSE;
    port = wanted;
    listening = interfaces;
    guardPorts();
    if (door)
        virTorrentTlsDoorSetPort(door->m_door, VIR_TORRENT_TLS_PORT(wanted));
    return 0;
}

/* Listens where @s says; what was listened on before is given up. */
bool
Engine::listenOn(VirTorrentEngineSettings const &s, GError **error)
{
    guint16 const first = s.listen_port ? s.listen_port : VIR_TORRENT_DEFAULT_PORT;
    guint const tries = s.listen_port ? 1 : 1000;
    std::string const where = s.listen_address ? s.listen_address : "";
    g_auto(GStrv) addresses = listenAddresses(where);
    lt::settings_pack p;
    int err = 0;

    p.set_str(lt::settings_pack::listen_interfaces, "");
    session->apply_settings(p);
    session->listen_port();
    for (guint i = 0; i < tries; i++) {
        err = listenOn(addresses, static_cast<guint16>(first + i));
        /* an engine that was freed a moment ago may still hold the port */
        if (err == EADDRINUSE && i == 0 && reaper.wait())
            err = listenOn(addresses, first);
        if (err == 0) {
            listen = where;
            bootstrap_at = 0;
            bootstrap_pause = G_USEC_PER_SEC;
            return true;
        }
        if (err != EADDRINUSE)
            break;
    }
    port = 0;
    setError(error, VIR_TORRENT_ENGINE_ERROR_FAILED,
             format(_("cannot listen on %s port %u: %s"),
                    s.listen_address ? s.listen_address : _("any address"), first, g_strerror(err)));
    return false;
}

/* What the filter keeps from peers, the kernel keeps from the sockets. */
void
Engine::guardPorts()
{
    guint16 const ports[] = { port, static_cast<guint16>(tls ? VIR_TORRENT_TLS_PORT(port) : 0), 0 };
    std::vector<char const *> list;

    for (auto const &cidr : allow)
        list.push_back(cidr.c_str());
    list.push_back(nullptr);
    if (!virTorrentAllowAttach(list.data(), ports))
        g_warning(_("The networks that are allowed hold for peers, but not for DHT: %s"), g_strerror(errno));
}

/* Addresses come and go; the port stays. */
void
Engine::followAddresses()
{
    g_auto(GStrv) addresses = listenAddresses(listen);
    g_autofree char *now = virTorrentListenFormat(addresses, port, tls != nullptr);
    lt::settings_pack p;

    if (now == listening)
        return;
    listening = now;
    p.set_str(lt::settings_pack::listen_interfaces, now);
    session->apply_settings(p);
    session->listen_port();     /* the sockets are there */
    guardPorts();
    bootstrap_at = 0;
    bootstrap_pause = G_USEC_PER_SEC;
    for (auto &it : torrents) {
        it.second->announce_at = 0;
        if (it.second->handle.is_valid())
            it.second->handle.force_lsd_announce();
    }
    hurry();
}

/* Everything but where to listen. */
void
Engine::apply(VirTorrentEngineSettings const &s)
{
    filter = allowFilter(s.allow);
    applyFilter();
    allow.clear();
    for (gsize i = 0; s.allow && s.allow[i]; i++)
        allow.emplace_back(s.allow[i]);
    if (port)
        guardPorts();

    dht = s.dht;
    pex = s.pex;
    bootstrap.clear();
    for (gsize i = 0; s.bootstrap && s.bootstrap[i]; i++) {
        g_autofree char *host = nullptr;
        guint16 p;

        if (virTorrentHostParse(s.bootstrap[i], &host, &p))
            bootstrap.emplace_back(host, p);
    }
    bootstrap_at = 0;
    bootstrap_pause = G_USEC_PER_SEC;
    trackers.clear();
    for (gsize i = 0; s.trackers && s.trackers[i]; i++)
        trackers.emplace_back(s.trackers[i]);
    webseeds.clear();
    for (gsize i = 0; s.webseeds && s.webseeds[i]; i++)
        webseeds.emplace_back(s.webseeds[i]);
}

Torrent *
Engine::find(char const *id)
{
    auto it = torrents.find(id);

    return it == torrents.end() ? nullptr : it->second.get();
}

Torrent *
Engine::find(lt::torrent_handle const &handle)
{
    auto it = handles.find(handle);

    return it == handles.end() ? nullptr : it->second;
}

/* Its own and the pool's. */
std::vector<std::string>
Engine::trackersOf(Torrent const &t) const
{
    std::vector<std::string> out(trackers);

    for (auto const &url : t.trackers) {
        if (std::find(out.begin(), out.end(), url) == out.end())
            out.push_back(url);
    }
    return out;
}

/* Its own and the pool's, as URLs of the file; none of what is complete. */
std::vector<std::string>
Engine::webseedsOf(Torrent const &t) const
{
    std::vector<std::string> all(webseeds), out;

    if (t.seed || t.metadata_only)
        return out;
    all.insert(all.end(), t.webseeds.begin(), t.webseeds.end());
    for (auto const &seed : all) {
        if (tls && !g_str_has_prefix(seed.c_str(), "https:"))
            continue;
        g_autofree char *url = virTorrentWebSeedUrl(seed.c_str(), t.info->name);

        if (std::find(out.begin(), out.end(), url) == out.end())
            out.emplace_back(url);
    }
    return out;
}

/* Trackers and PEX of a torrent that is there already. */
void
Engine::discover(Torrent &t)
{
    std::vector<lt::announce_entry> entries;

    if (!t.handle.is_valid())
        return;
    for (auto const &url : trackersOf(t))
        entries.emplace_back(url);
    t.handle.replace_trackers(entries);
    for (auto const &url : webseedsOf(t))
        t.handle.add_url_seed(url);
    if (pex)
        t.handle.unset_flags(lt::torrent_flags::disable_pex);
    else
        t.handle.set_flags(lt::torrent_flags::disable_pex);
    t.handle.force_lsd_announce();
    t.announce_at = 0;
}

/* Hands @t to the session. */
void
Engine::start(Torrent &t, lt::add_torrent_params params)
{
    using namespace lt::torrent_flags;

    params.flags = duplicate_is_error | apply_ip_filter | need_save_resume | update_subscribe |
                   override_web_seeds;
    if (!pex)
        params.flags |= disable_pex;
    if (t.seed)
        params.flags |= t.verify ? upload_mode : seed_mode | upload_mode;
    else
        params.flags |= paused;     /* see begin() */
    /* or each piece would be read and hashed once more before it is first given away */
    if (t.seed && !t.verify && params.ti)
        params.verified_pieces.resize(params.ti->num_pieces(), true);
    params.storage_mode = lt::storage_mode_sparse;
    if (t.metadata_only) {
        params.flags |= default_dont_download;
        params.save_path = NOWHERE;
    } else {
        params.save_path = t.dir;
        params.renamed_files[lt::file_index_t(0)] = t.file;
    }
    params.name = t.file;
    params.userdata = lt::client_data_t(&t);
    params.dht_nodes.clear();       /* the pool says whom to bootstrap from */
    params.trackers = trackersOf(t);
    params.tracker_tiers.clear();
    params.url_seeds = webseedsOf(t);
    params.http_seeds.clear();
    for (auto const &peer : t.peers)
        params.peers.push_back(peer);

    t.hashes = params.ti ? params.ti->info_hashes() : params.info_hashes;
    if (!t.metadata_only && t.hashes.has_v2()) {
        t.hold = isWorthAsking(t);
        t.hold_at = g_get_monotonic_time();
        t.leaves = std::make_shared<Leaves>(t.hold, wake);
        if (t.seed && !leaves.empty())
            t.leaves->path = leaves + "/" + t.id + ".leaves";
        params.extensions.push_back([l = t.leaves](lt::torrent_handle const &, lt::client_data_t)
                                    -> std::shared_ptr<lt::torrent_plugin> {
            return std::make_shared<LeavesTorrent>(l);
        });
        if (!t.hold)
            applyKnown(t, params);
    }
    params.download_limit = t.limit;
    if (t.have && !t.metadata_only)
        params.extensions.push_back([h = t.have](lt::torrent_handle const &, lt::client_data_t)
                                    -> std::shared_ptr<lt::torrent_plugin> {
            return std::make_shared<HaveTorrent>(h);
        });
    if (tls && t.metadata_only)
        searchTls(t);
    params.extensions.push_back([this, &t](lt::torrent_handle const &h, lt::client_data_t)
                                -> std::shared_ptr<lt::torrent_plugin> {
        if (!tls)
            return {};
        if (t.metadata_only)
            return t.finder;
        return std::make_shared<TlsTorrent>(tls, door, h);
    });
    t.handle = session->add_torrent(std::move(params));
    handles[t.handle] = &t;
    t.waiting = !t.seed;
    if (t.metadata_only)
        begin(t);
    t.announce_at = 0;
    t.announce_pause = G_USEC_PER_SEC;
    hurry();
}

/* Looks for the dictionary of a torrent that only those get who have a certificate. */
void
Engine::searchTls(Torrent &t)
{
    VirTorrentTlsName name = {};
    auto onDict = [](GBytes *dict, gpointer opaque) {
        auto t = static_cast<Torrent *>(opaque);
        auto e = static_cast<Engine *>(t->owner)->self;

        guard([&] { e->learnDict(*t, dict); });
    };

    name.v2 = t.hashes.has_v2();
    memcpy(name.hash, name.v2 ? t.hashes.v2.data() : t.hashes.v1.data(), name.v2 ? 32 : 20);
    t.owner = this;
    t.finder = std::make_shared<Finder>(wake);
    t.search = virTorrentTlsSearchNew(tls, &name, listen.empty() ? nullptr : listen.c_str(), onDict, &t);
}

/* Whom the caller, the magnet and the swarm told of. */
void
Engine::advanceSearch(Torrent &t)
{
    if (!t.search || t.state == VIR_TORRENT_FAILED)
        return;
    for (auto const &peer : t.finder->take()) {
        if (std::find(t.peers.begin(), t.peers.end(), peer) == t.peers.end())
            t.peers.push_back(peer);
    }
    for (auto const &peer : t.peers) {
        bool const v6 = peer.address().is_v6();
        std::string const address = peer.address().to_string();

        if (!(filter.access(peer.address()) & lt::ip_filter::blocked))
            virTorrentTlsSearchAdd(t.search, format(v6 ? "[%s]:%u" : "%s:%u", address.c_str(),
                                                    peer.port()).c_str());
    }
    virTorrentTlsSearchTick(t.search);
}

/* The dictionary came, of a private swarm. */
void
Engine::learnDict(Torrent &t, GBytes *dict)
{
    g_autoptr(GError) error = nullptr;
    g_auto(VirTorrentMetainfoRaw) raw = {};
    gsize len;
    auto data = static_cast<char const *>(g_bytes_get_data(dict, &len));
    std::string const text = "d4:info" + std::string(data, len) + "e";

    g_clear_pointer(&t.search, virTorrentTlsSearchFree);
    if (identify(t, raw, data, len, &error)) {
        if (auto ti = loadMetainfo(reinterpret_cast<guint8 const *>(text.data()), text.size(), &error))
            return startData(t, ti, t.peers);
    }
    drop(t);
    fail(t, error->message);
}

/* A torrent that is begun connects to the peers it knows; one that runs is looked
 * at once a second.  So a fetch is added paused, and begun as soon as it may
 * connect: when what is on disk was judged, or is about to be read. */
void
Engine::begin(Torrent &t)
{
    if (!t.waiting)
        return;
    t.waiting = false;
    if (t.state != VIR_TORRENT_FAILED && t.handle.is_valid())
        t.handle.resume();
}

/* Takes @t from the session. */
void
Engine::drop(Torrent &t, bool successor)
{
    if (!t.handle.is_valid() && handles.find(t.handle) == handles.end())
        return;
    handles.erase(t.handle);
    if (t.handle.is_valid()) {
        /* or its goodbye reaches the tracker after the hello of its successor */
        if (successor)
            t.handle.replace_trackers({});
        session->remove_torrent(t.handle);
    }
    t.handle = lt::torrent_handle();
}

void
Engine::queue(Torrent &t, VirTorrentEventType type)
{
    pending.push_back({type, t.id, t.serial, {}, {}});
    wake->ring();
}

void
Engine::fail(Torrent &t, std::string const &message)
{
    if (t.state == VIR_TORRENT_FAILED)
        return;
    t.state = VIR_TORRENT_FAILED;
    t.error = message;
    if (t.handle.is_valid())
        t.handle.pause();
    pending.push_back({VIR_TORRENT_EVENT_FAILED, t.id, t.serial, message, {}});
    wake->ring();
}

void
Engine::deliver()
{
    while (!pending.empty() && !freed) {
        Pending p = std::move(pending.front());
        Torrent *t = find(p.id.c_str());
        g_autoptr(GBytes) data = nullptr;
        VirTorrentEvent event = {};

        pending.pop_front();
        if (!t || t->serial != p.serial)
            continue;
        event.type = p.type;
        event.id = p.id.c_str();
        if (p.type == VIR_TORRENT_EVENT_FAILED)
            event.message = p.message.c_str();
        if (p.type == VIR_TORRENT_EVENT_RESUME_DATA || p.type == VIR_TORRENT_EVENT_LEAVES)
            event.data = data = g_bytes_new(p.data.data(), p.data.size());
        func(&event, opaque);
    }
}

/* --- what the network thread tells ----------------------------------------------- */

void
Engine::onAlerts()
{
    std::vector<lt::alert *> alerts;

    wake->hush();
    session->pop_alerts(&alerts);
    for (lt::alert *alert : alerts)
        guard([&] { onAlert(alert); });
    for (auto &it : torrents) {
        if (it.second->hold)
            advance(*it.second, g_get_monotonic_time());
        advanceSearch(*it.second);
    }
    deliver();
}

void
Engine::onAlert(lt::alert *alert)
{
    if (auto a = lt::alert_cast<lt::state_update_alert>(alert)) {
        for (auto const &status : a->status)
            onStatus(status);
    } else if (auto a = lt::alert_cast<lt::metadata_received_alert>(alert)) {
        Torrent *t = find(a->handle);

        if (t && t->metadata_only)
            onMetadata(*t);
    } else if (auto a = lt::alert_cast<lt::torrent_checked_alert>(alert)) {
        Torrent *t = find(a->handle);

        if (t)
            begin(*t);
    } else if (auto a = lt::alert_cast<lt::state_changed_alert>(alert)) {
        Torrent *t = find(a->handle);

        if (t && a->state == lt::torrent_status::checking_files)
            begin(*t);
    } else if (lt::alert_cast<lt::torrent_finished_alert>(alert)) {
        /* the status that proves it is asked for */
        session->post_torrent_updates(lt::torrent_handle::query_pieces);
    } else if (auto a = lt::alert_cast<lt::torrent_error_alert>(alert)) {
        onError(a->handle, a->error, a->filename());
    } else if (auto a = lt::alert_cast<lt::file_error_alert>(alert)) {
        onError(a->handle, a->error, a->filename());
    } else if (auto a = lt::alert_cast<lt::file_rename_failed_alert>(alert)) {
        Torrent *t = find(a->handle);

        if (t)
            onError(a->handle, a->error, t->file.c_str());
    } else if (auto a = lt::alert_cast<lt::save_resume_data_alert>(alert)) {
        Torrent *t = find(a->handle);

        if (t && ((t->metadata_only && a->params.ti) || t->renewing)) {
            onPeers(*t, a->params.peers);
        } else if (t && t->want_leaves) {
            onLeaves(*t, a->params);
        } else if (t) {
            /* what the metainfo has, and the hash of each block: 2 MiB per GiB, every
             * few seconds */
            if (t->metainfo) {
                a->params.merkle_trees.clear();
                a->params.merkle_tree_mask.clear();
                a->params.verified_leaf_hashes.clear();
            }
            auto const buf = lt::write_resume_data_buf(a->params);

            pending.push_back({VIR_TORRENT_EVENT_RESUME_DATA, t->id, t->serial, {},
                               std::string(buf.begin(), buf.end())});
        }
    } else if (auto a = lt::alert_cast<lt::metadata_failed_alert>(alert)) {
        Torrent *t = find(a->handle);

        /* A peer that sends something else than what was asked for is no end: there
         * are others.  What is what was asked for, yet cannot be used, is. */
        if (t && t->metadata_only && a->error != lt::errors::mismatching_info_hash)
            fail(*t, format(_("the torrent is malformed: %s"), a->error.message().c_str()));
    } else if (auto a = lt::alert_cast<lt::session_stats_alert>(alert)) {
        static int const nodes = lt::find_metric_idx("dht.dht_nodes");

        if (nodes >= 0)
            onStats(a->counters()[nodes]);
    } else if (auto a = lt::alert_cast<lt::dht_announce_alert>(alert)) {
        onStranger(a->info_hash, {a->ip, static_cast<std::uint16_t>(a->port)});
    } else if (auto a = lt::alert_cast<lt::hash_failed_alert>(alert)) {
        Torrent *t = find(a->handle);

        g_info("Piece %d of '%s' did not arrive as it should", static_cast<int>(a->piece_index),
               t ? t->id.c_str() : "?");
    } else if (auto a = lt::alert_cast<lt::peer_ban_alert>(alert)) {
        Torrent *t = find(a->handle);

        g_warning("Peer %s sent wrong data for '%s' and is not spoken to any more",
                  a->endpoint.address().to_string().c_str(), t ? t->id.c_str() : "?");
        onLiar(a->endpoint.address());
    } else if (auto a = lt::alert_cast<lt::listen_failed_alert>(alert)) {
        g_info("%s", a->message().c_str());
    }
}

void
Engine::applyFilter()
{
    lt::ip_filter all = filter;

    for (auto const &liar : liars) {
        if (liar.second.until)
            all.add_rule(liar.first, liar.first, lt::ip_filter::blocked);
    }
    session->set_ip_filter(all);
}

void
Engine::onLiar(lt::address const &address)
{
    Liar &liar = liars[address];

    if (++liar.times < 2)
        return;
    liar.until = g_get_monotonic_time() + LIAR_PAUSE;
    applyFilter();
}

/* They may have been put right. */
void
Engine::forgiveLiars(gint64 now)
{
    bool any = false;

    for (auto it = liars.begin(); it != liars.end();) {
        if (it->second.until && it->second.until < now) {
            it = liars.erase(it);
            any = true;
        } else {
            ++it;
        }
    }
    if (any)
        applyFilter();
}

void
Engine::onError(lt::torrent_handle const &handle, lt::error_code const &ec, char const *file)
{
    Torrent *t = find(handle);

    /* A torrent without a place on disk is bound to stumble over that. */
    if (!t || t->metadata_only)
        return;
    fail(*t, format(_("'%s': %s"), file && *file ? file : t->file.c_str(), ec.message().c_str()));
}

static guint64
verifiedBytes(Torrent const &t)
{
    guint64 bytes = static_cast<guint64>(t.status.num_pieces) * t.info->piece_length;
    guint64 const tail = t.info->size % t.info->piece_length;

    if (t.status.is_seeding)
        return t.info->size;
    if (tail && t.pieces && static_cast<guint32>(t.status.pieces.size()) == t.pieces &&
        t.status.pieces[lt::piece_index_t(static_cast<int>(t.pieces) - 1)])
        bytes -= t.info->piece_length - tail;
    return bytes;
}

void
Engine::onStatus(lt::torrent_status const &status)
{
    Torrent *t = find(status.handle);

    if (!t)
        return;
    t->status = status;
    if (t->state == VIR_TORRENT_FAILED || t->metadata_only)
        return;
    switch (status.state) {
    case lt::torrent_status::checking_files:
    case lt::torrent_status::checking_resume_data:
        t->state = VIR_TORRENT_CHECKING;
        break;
    case lt::torrent_status::seeding:
    case lt::torrent_status::finished:
        t->state = status.is_seeding ? VIR_TORRENT_COMPLETE : VIR_TORRENT_DOWNLOADING;
        break;
    default:
        t->state = VIR_TORRENT_DOWNLOADING;
        break;
    }
    if (t->seed && status.state != lt::torrent_status::checking_resume_data &&
        !(t->verify && t->state == VIR_TORRENT_CHECKING) &&
        t->state != VIR_TORRENT_COMPLETE) {
        fail(*t, format(_("'%s' is not what it was when it was verified"), t->file.c_str()));
        return;
    }
    if (t->tell_metadata && learnMetainfo(*t)) {
        t->tell_metadata = false;
        queue(*t, VIR_TORRENT_EVENT_METADATA);
    }
    if (t->state == VIR_TORRENT_COMPLETE && !t->told_complete && !t->tell_metadata) {
        t->told_complete = true;
        queue(*t, VIR_TORRENT_EVENT_COMPLETE);
        if (!t->seed && t->hashes.has_v2() && !leaves.empty()) {
            t->want_leaves = true;
            t->handle.save_resume_data({});
        }
    }
}

/* The DHT is there, or there again: it knows nothing of us yet. */
void
Engine::onStats(gint64 nodes)
{
    if (nodes > 0 && dht_nodes == 0) {
        for (auto &it : torrents) {
            it.second->added = g_get_monotonic_time();
            it.second->announce_at = 0;
            it.second->announce_pause = G_USEC_PER_SEC;
        }
    }
    dht_nodes = nodes;
}

/* Somebody told our DHT node that he has or wants @hash.  If we do, too, there is no
 * need to wait until one of us looks it up again: the node that knew us both may
 * have been restarted since. */
void
Engine::onStranger(lt::sha1_hash const &hash, lt::tcp::endpoint const &peer)
{
    for (auto &it : torrents) {
        Torrent &t = *it.second;

        if ((hash == t.hashes.v1 || hash == lt::sha1_hash(t.hashes.v2.data())) && t.handle.is_valid())
            t.handle.connect_peer(peer, lt::peer_info::dht,
                                  t.hashes.has_v2() ? lt::pex_lt_v2 : lt::pex_flags_t{});
    }
}

/* What libtorrent is to know of a metainfo: the info dictionary and the piece
 * layers, nothing else that may stand beside them. */
static std::shared_ptr<lt::torrent_info>
loadMetainfo(guint8 const *data, gsize len, GError **error)
{
    lt::load_torrent_limits limits;

    limits.max_buffer_size = VIR_TORRENT_METAINFO_MAX;
    limits.max_pieces = VIR_TORRENT_PIECES_MAX;
    limits.max_decode_depth = 32;
    limits.max_decode_tokens = 100000;
    try {
        return std::make_shared<lt::torrent_info>(
            lt::span<char const>(reinterpret_cast<char const *>(data), static_cast<std::ptrdiff_t>(len)),
            limits, lt::from_span);
    } catch (std::exception const &e) {
        setError(error, VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO,
                 format(_("the torrent is malformed: %s"), e.what()));
        return nullptr;
    }
}

/* The info dictionary came: judge it.  The peers it came from are needed again, also
 * those that called us: resume data has them by the address that can be called. */
void
Engine::onMetadata(Torrent &t)
{
    std::shared_ptr<lt::torrent_info const> got = t.handle.torrent_file();
    g_autoptr(GError) error = nullptr;
    g_auto(VirTorrentMetainfoRaw) raw = {};

    if (!got)
        return;
    auto const dict = got->info_section();
    if (identify(t, raw, dict.data(), static_cast<gsize>(dict.size()), &error)) {
        t.handle.save_resume_data(lt::torrent_handle::save_info_dict);
        return;
    }
    drop(t);
    fail(t, error->message);
}

/* Begins with the data. */
void
Engine::onPeers(Torrent &t, std::vector<lt::tcp::endpoint> peers)
{
    std::shared_ptr<lt::torrent_info const> got = t.handle.torrent_file();

    if (got && t.state != VIR_TORRENT_FAILED)
        startData(t, got, std::move(peers));
}

void
Engine::startData(Torrent &t, std::shared_ptr<lt::torrent_info const> const &got,
                  std::vector<lt::tcp::endpoint> peers)
{
    lt::add_torrent_params params;

    t.tell_metadata = t.tell_metadata || t.metadata_only;
    t.metadata_only = t.renewing = false;
    if (t.metainfo)
        params.ti = loadMetainfo(static_cast<guint8 const *>(g_bytes_get_data(t.metainfo, nullptr)),
                                 g_bytes_get_size(t.metainfo), nullptr);
    if (!params.ti)
        params.ti = std::make_shared<lt::torrent_info>(*got);
    params.peers = std::move(peers);
    drop(t, true);
    t.state = VIR_TORRENT_CHECKING;
    try {
        start(t, std::move(params));
    } catch (std::exception const &e) {
        fail(t, e.what());
    }
}

/* Takes over what an info dictionary says. */
bool
Engine::identify(Torrent &t, VirTorrentMetainfoRaw &raw, char const *dict, gsize len, GError **error)
{
    if (!virTorrentMetainfoReadInfo(reinterpret_cast<guint8 const *>(dict), len, &raw, error))
        return false;
    if (raw.info->tls != (tls != nullptr)) {
        setError(error, VIR_TORRENT_ENGINE_ERROR_INVALID_METAINFO,
                 tls ? _("the torrent is a public one, but this pool's swarm is private (tls)")
                     : _("the torrent is one of a private swarm: it needs a pool with <torrent:tls/>"));
        return false;
    }
    virTorrentMetainfoFree(t.info);
    t.info = static_cast<VirTorrentMetainfo *>(g_steal_pointer(&raw.info));
    t.pieces = raw.pieces;
    t.holes = raw.holes;
    t.dict.assign(dict, raw.length);
    t.key = t.info->key;    /* a hybrid torrent may have been asked for by its other name */
    return true;
}

static void
appendString(std::string &out, char const *data, std::size_t len)
{
    out += std::to_string(len) + ":";
    out.append(data, len);
}

/* The hashes of the pieces; of a file of one piece, its root. */
static guint8 const *
pieceLayer(VirTorrentMetainfoRaw const &raw)
{
    return raw.layer ? raw.layer : raw.pieces == 1 ? raw.root : nullptr;
}

static void
findZeros(Torrent &t, VirTorrentMetainfoRaw const &raw)
{
    guint8 const *layer = pieceLayer(raw);
    g_autofree guint8 *zeros = layer ? virTorrentZeroPieces(raw.info->size, raw.info->piece_length, layer)
                                     : nullptr;

    if (zeros)
        t.zeros.assign(zeros, zeros + raw.pieces);
}

/* The .torrent file of @t, once every piece layer is here. */
bool
Engine::learnMetainfo(Torrent &t)
{
    std::shared_ptr<lt::torrent_info const> full;
    std::string out;
    VirTorrentMetainfoRaw raw = {};

    if (t.metainfo)
        return true;
    if (!t.handle.is_valid() || !(full = t.handle.torrent_file_with_hashes()))
        return false;
    out = "d4:info" + t.dict;
    if (full->v2()) {
        lt::file_index_t const file(0);
        auto const layer = full->piece_layer(file);
        auto const root = full->files().root(file);

        out += "12:piece layersd";
        if (t.pieces > 1) {
            appendString(out, root.data(), VIR_TORRENT_HASH_SIZE);
            appendString(out, layer.data(), static_cast<std::size_t>(layer.size()));
        }
        out += "e";
    }
    out += "e";
    if (!virTorrentMetainfoRead(reinterpret_cast<guint8 const *>(out.data()), out.size(), &raw, nullptr))
        return false;
    findZeros(t, raw);
    virTorrentMetainfoRawClear(&raw);
    t.metainfo = g_bytes_new(out.data(), out.size());
    return true;
}

/* --- what need not be fetched ------------------------------------------------------ */

/* Masters of this engine that @t may be a new version of, the most likely ones first. */
std::vector<Predecessor>
Engine::predecessors(Torrent const &t) const
{
    std::vector<Predecessor> out;

    for (auto const &it : torrents) {
        Torrent const &m = *it.second;
        std::string const path = leaves + "/" + m.id + ".leaves";
        std::size_t alike = 0;

        if (leaves.empty() || &m == &t || m.state != VIR_TORRENT_COMPLETE || !m.hashes.has_v2() || !m.info ||
            access(path.c_str(), R_OK) < 0)
            continue;
        while (alike < m.id.size() && alike < t.id.size() && m.id[alike] == t.id[alike])
            alike++;
        out.push_back({m.dir + "/" + m.file, path, m.info->size, alike});
    }
    std::stable_sort(out.begin(), out.end(), [](Predecessor const &a, Predecessor const &b) {
        return a.alike != b.alike ? a.alike > b.alike : a.size > b.size;
    });
    if (out.size() > PREDECESSORS)
        out.resize(PREDECESSORS);
    return out;
}

/* Whether to be told more of @t before anything of it is fetched: a file without holes
 * and without predecessor would only lose time. */
bool
Engine::isWorthAsking(Torrent const &t) const
{
    struct stat st;
    std::string const path = t.dir + "/" + t.file;

    if (t.seed || t.verify || t.held || !t.info || t.info->size < HOLD_MIN || stat(path.c_str(), &st) == 0)
        return false;
    return !predecessors(t).empty() || (!t.metainfo && t.holes);
}

/* From being told to fetching, or back: a new torrent with the same peers. */
void
Engine::renew(Torrent &t)
{
    t.hold = false;
    t.held = t.renewing = true;
    t.handle.save_resume_data(lt::torrent_handle::save_info_dict);
}

void
Engine::startFill(Torrent &t, std::vector<Predecessor> masters)
{
    std::string const path = t.dir + "/" + t.file;
    int const fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (fd < 0 || ftruncate(fd, static_cast<off_t>(t.info->size)) < 0) {
        g_info("'%s': %s", path.c_str(), g_strerror(errno));
        if (fd >= 0)
            close(fd);
        renew(t);
        return;
    }
    t.fill = std::make_shared<Fill>();
    t.fill->delta = t.leaves->wanted();
    t.fill->masters = std::move(masters);
    t.fill->fd = fd;
    t.fill->wake = wake;
    std::thread([f = t.fill] { f->run(); }).detach();
}

void
Engine::endFill(Torrent &t)
{
    if (t.fill->ok) {
        t.delta = virTorrentDeltaRef(t.fill->delta);
        g_info("'%s': %u of %u blocks are on this host already", t.id.c_str(),
               virTorrentDeltaCountBlocks(t.delta), virTorrentDeltaGetBlocks(t.delta));
    }
    t.fill.reset();
    renew(t);
}

/* One that holds: is enough known, or nothing more to be expected? */
void
Engine::advance(Torrent &t, gint64 now)
{
    if (!t.hold || t.renewing || t.state == VIR_TORRENT_FAILED || !t.handle.is_valid())
        return;
    hurry_until = std::max(hurry_until, now + TICK_HURRY);
    if (t.fill) {
        if (t.fill->done)
            endFill(t);
        return;
    }
    if (t.status.num_peers == 0 && webseedsOf(t).empty())
        t.hold_at = now;
    if (learnMetainfo(t)) {
        auto masters = predecessors(t);
        g_autoptr(VirTorrentDelta) delta = t.leaves->wanted();

        if (masters.empty())
            return renew(t);
        if (!delta) {
            g_auto(VirTorrentMetainfoRaw) raw = {};
            gsize len;
            auto data = static_cast<guint8 const *>(g_bytes_get_data(t.metainfo, &len));

            if (!virTorrentMetainfoRead(data, len, &raw, nullptr) || !pieceLayer(raw))
                return renew(t);
            delta = virTorrentDeltaNew(raw.info->size, raw.info->piece_length, pieceLayer(raw));
            t.leaves->moved = now;
            std::lock_guard<std::mutex> guard(t.leaves->lock);
            t.leaves->delta = delta ? virTorrentDeltaRef(delta) : nullptr;
        } else if (virTorrentDeltaIsComplete(delta)) {
            return startFill(t, std::move(masters));
        }
    }
    if (now - std::max<gint64>(t.hold_at, t.leaves->moved) > (t.leaves->peers > 0 ? HOLD_ANSWER : HOLD_PEER))
        renew(t);
}

/* Zeros, and what was copied from a predecessor, are had from the start. */
void
Engine::applyKnown(Torrent &t, lt::add_torrent_params &params)
{
    std::string const path = t.dir + "/" + t.file;
    int const pieces = static_cast<int>(t.pieces);
    guint32 const per_piece = t.info->piece_length / VIR_TORRENT_BLOCK_SIZE;

    if (t.seed || t.verify || (t.zeros.empty() && !t.delta))
        return;
    int const fd = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    struct stat st;

    if (fd < 0)
        return;     /* will be said by who writes to it */
    if (fstat(fd, &st) == 0 && static_cast<guint64>(st.st_size) < t.info->size &&
        ftruncate(fd, static_cast<off_t>(t.info->size)) < 0) {
        close(fd);
        return;
    }
    params.have_pieces.resize(pieces);
    for (int i = 0; i < pieces; i++) {
        guint64 const begin = static_cast<guint64>(i) * t.info->piece_length;
        guint64 const end = std::min(begin + t.info->piece_length, t.info->size);
        guint32 const first = static_cast<guint32>(i) * per_piece;
        int const blocks = static_cast<int>((end - begin + VIR_TORRENT_BLOCK_SIZE - 1) / VIR_TORRENT_BLOCK_SIZE);
        lt::bitfield some(blocks, false);
        lt::piece_index_t const piece(i);

        if ((!t.zeros.empty() && t.zeros[static_cast<std::size_t>(i)] && virTorrentIsHole(fd, begin, end)) ||
            (t.delta && virTorrentDeltaHasPiece(t.delta, static_cast<guint32>(i)))) {
            params.have_pieces.set_bit(piece);
            continue;
        }
        for (int b = 0; t.delta && b < blocks; b++) {
            if (virTorrentDeltaHasBlock(t.delta, first + static_cast<guint32>(b)))
                some.set_bit(b);
        }
        if (!some.none_set())
            params.unfinished_pieces[piece] = some;
    }
    close(fd);
}

/* The leaves of what was fetched: libtorrent made them. */
void
Engine::onLeaves(Torrent &t, lt::add_torrent_params const &params)
{
    std::size_t const blocks = (t.info->size + VIR_TORRENT_BLOCK_SIZE - 1) / VIR_TORRENT_BLOCK_SIZE;
    std::size_t width = 1, at = 0, found = 0;
    std::string out(blocks * VIR_TORRENT_HASH_SIZE, 0);
    lt::file_index_t const file(0);

    t.want_leaves = false;
    while (width < blocks)
        width *= 2;
    if (t.delta) {
        g_autoptr(GBytes) all = virTorrentDeltaGetLeaves(t.delta);

        out.assign(static_cast<char const *>(g_bytes_get_data(all, nullptr)), g_bytes_get_size(all));
        found = blocks;
    } else if (!params.merkle_trees.empty() && !params.merkle_tree_mask.empty()) {
        auto const &tree = params.merkle_trees[file];
        auto const &mask = params.merkle_tree_mask[file];

        for (std::size_t i = 0; i < mask.size() && at < tree.size(); i++) {
            if (!mask[i])
                continue;
            if (i + 1 >= width && i + 1 - width < blocks) {
                memcpy(&out[(i + 1 - width) * VIR_TORRENT_HASH_SIZE], tree[at].data(), VIR_TORRENT_HASH_SIZE);
                found++;
            }
            at++;
        }
    }
    g_debug("'%s': %zu leaves of %zu", t.id.c_str(), found, blocks);
    if (found < blocks)
        return;
    pending.push_back({VIR_TORRENT_EVENT_LEAVES, t.id, t.serial, {}, std::move(out)});
    wake->ring();
}

/* --- the clock -------------------------------------------------------------------- */

/* Looks for peers by DHT soon after a torrent was added, then ever less often:
 * libtorrent's own rhythm counts in minutes. */
void
Engine::announce(Torrent &t, gint64 now)
{
    bool const done = t.state == VIR_TORRENT_COMPLETE;

    if (!dht || t.state == VIR_TORRENT_FAILED || now < t.announce_at ||
        (t.announce_at && (done ? now - t.added > 60 * G_USEC_PER_SEC : t.status.num_peers > 0)))
        return;
    t.handle.force_dht_announce();
    t.announce_at = now + t.announce_pause;
    t.announce_pause = std::min<gint64>(t.announce_pause * 2, 60 * G_USEC_PER_SEC);
}

void
Engine::hurry()
{
    gint64 const now = g_get_monotonic_time();

    hurry_until = now + HURRY;
    if (tick_source)
        g_source_set_ready_time(tick_source, now);
}

/* The pool's bootstrap hosts: as ordinary nodes, since libtorrent's "bootstrap
 * nodes" are asked but never told anything, and here they are hosts of the swarm.
 * Again and again, since they may come up after us. */
void
Engine::lookForNodes(gint64 now)
{
    if (!dht)
        return;
    if (now >= bootstrap_at) {
        for (auto const &node : bootstrap)
            session->add_dht_node(node);
        bootstrap_at = now + bootstrap_pause;
        bootstrap_pause = std::min<gint64>(bootstrap_pause * 2, (dht_nodes ? 60 : 5) * G_USEC_PER_SEC);
    }
    if (now >= count_at) {
        session->post_session_stats();
        count_at = dht_nodes ? now + 10 * G_USEC_PER_SEC
                             : now < hurry_until ? now : now + G_USEC_PER_SEC;
    }
}

void
Engine::onTick()
{
    gint64 const now = g_get_monotonic_time();

    session->post_torrent_updates(lt::torrent_handle::query_pieces);
    if (listen.empty() && now >= look_at) {
        look_at = now + 5 * G_USEC_PER_SEC;
        followAddresses();
    }
    lookForNodes(now);
    forgiveLiars(now);
    prioritize(now);
    if (tls && now >= reload_at) {
        reload_at = now + 2 * G_USEC_PER_SEC;
        virTorrentTlsReload(tls);
    }
    for (auto &it : torrents) {
        Torrent &t = *it.second;

        if (!t.handle.is_valid())
            continue;
        advance(t, now);
        advanceSearch(t);
        announce(t, now);
        if (t.tell_metadata && t.state != VIR_TORRENT_FAILED && learnMetainfo(t)) {
            t.tell_metadata = false;
            queue(t, VIR_TORRENT_EVENT_METADATA);
        }
    }
    deliver();
}

static bool
isFetching(Torrent const &t)
{
    return t.state == VIR_TORRENT_METADATA || t.state == VIR_TORRENT_DOWNLOADING ||
        (t.state == VIR_TORRENT_CHECKING && !t.seed);
}

/* Tells the queue what came, and who has to wait what it says. */
void
Engine::prioritize(gint64 now)
{
    guint fetching = 0;

    for (auto const &it : torrents) {
        Torrent const &t = *it.second;

        if (isFetching(t)) {
            virTorrentQueueTell(queue_first, it.first.c_str(),
                                static_cast<guint64>(t.status.total_payload_download), now);
            fetching++;
        } else {
            virTorrentQueueRemove(queue_first, it.first.c_str());
        }
    }
    char const *first = virTorrentQueueFirst(queue_first, now);
    int const trickle = first ? static_cast<int>(virTorrentQueueTrickle(fetching - 1)) : -1;
    for (auto &it : torrents) {
        Torrent &t = *it.second;
        int const limit = first && isFetching(t) && it.first != first ? trickle : -1;

        if (limit == t.limit)
            continue;
        t.limit = limit;
        if (t.handle.is_valid())
            t.handle.set_download_limit(limit);
    }
}

/* --- engine.h ----------------------------------------------------------------------- */

extern "C" {

VirTorrentEngine *
virTorrentEngineNew(const VirTorrentEngineSettings *settings,
                    VirTorrentEventFunc func,
                    gpointer opaque,
                    GError **error)
{
    if (!virTorrentSettingsCheck(settings, error))
        return nullptr;
    return guard(error, static_cast<Engine *>(nullptr), [&]() -> Engine * {
        auto e = std::make_shared<Engine>();

        e->func = func;
        e->opaque = opaque;
        if (!e->start(*settings, error))
            return nullptr;
        e->self = e;
        return e.get();
    });
}

void
virTorrentEngineFree(VirTorrentEngine *engine)
{
    if (!engine)
        return;
    guard([&] {
        std::shared_ptr<Engine> e = std::move(engine->self);

        e->freed = true;
        e->stop();
    });
}

gboolean
virTorrentEngineReconfigure(VirTorrentEngine *e,
                            const VirTorrentEngineSettings *s,
                            GError **error)
{
    if (!virTorrentSettingsCheck(s, error))
        return FALSE;
    return guard(error, FALSE, [&]() -> gboolean {
        std::string const where = s->listen_address ? s->listen_address : "";
        lt::settings_pack p;

        std::string const old = e->listen;
        guint16 const old_port = e->port;

        /* "any port" is content with the one there is */
        if ((where != e->listen || (s->listen_port && s->listen_port != e->port) || !e->port) &&
            !e->listenOn(*s, error)) {
            g_auto(GStrv) back = listenAddresses(old);

            if (old_port)
                e->listenOn(back, old_port);
            return FALSE;
        }
        e->apply(*s);
        setFrom(p, *s);
        e->session->apply_settings(p);
        for (auto &it : e->torrents)
            e->discover(*it.second);
        return TRUE;
    });
}

guint16
virTorrentEngineGetPort(VirTorrentEngine *e)
{
    return e->port;
}

GBytes *
virTorrentEngineSaveState(VirTorrentEngine *e)
{
    return guard(nullptr, static_cast<GBytes *>(nullptr), [&] {
        auto const params = e->session->session_state(lt::session_handle::save_dht_state);
        auto const buf = lt::write_session_params_buf(params, lt::session_handle::save_dht_state);

        return g_bytes_new(buf.data(), buf.size());
    });
}

} /* extern "C" */

static bool
fromMetainfo(Engine &e, Torrent &t, lt::add_torrent_params &params, GBytes *metainfo, GError **error)
{
    gsize len;
    auto data = static_cast<guint8 const *>(g_bytes_get_data(metainfo, &len));
    g_auto(VirTorrentMetainfoRaw) raw = {};

    if (!virTorrentMetainfoRead(data, len, &raw, error))
        return false;
    params.ti = loadMetainfo(data, raw.length, error);
    if (!params.ti)
        return false;
    for (auto const &tracker : params.ti->trackers()) {
        if (virTorrentTrackerCheck(tracker.url.c_str(), nullptr))
            t.trackers.push_back(tracker.url);
    }
    for (auto const &seed : params.ti->web_seeds()) {
        if (seed.type == lt::web_seed_entry::url_seed && virTorrentWebSeedCheck(seed.url.c_str(), nullptr))
            t.webseeds.push_back(seed.url);
    }
    t.metainfo = g_bytes_new_from_bytes(metainfo, 0, raw.length);
    findZeros(t, raw);
    auto const dict = params.ti->info_section();
    g_auto(VirTorrentMetainfoRaw) again = {};
    return e.identify(t, again, dict.data(), static_cast<gsize>(dict.size()), error);
}

static bool
fromMagnet(Torrent &t, lt::add_torrent_params &params, char const *magnet, GError **error)
{
    g_auto(VirTorrentMagnet) parts = {};
    g_autofree char *key = nullptr;
    lt::error_code ec;

    if (!virTorrentMagnetRead(magnet, &parts, error))
        return false;
    /* again from the parts: what we did not understand libtorrent need not */
    key = virTorrentMagnetKey(&parts);
    std::string link = std::string("magnet:?xt=") + key;
    if (parts.btih && parts.btmh)
        link += std::string("&xt=urn:btih:") + parts.btih;
    lt::parse_magnet_uri(link, params, ec);
    if (ec) {
        setError(error, VIR_TORRENT_ENGINE_ERROR_INVALID_MAGNET, ec.message());
        return false;
    }
    t.key = key;
    for (char **peer = parts.peers; *peer; peer++) {
        lt::tcp::endpoint endpoint;

        if (parseEndpoint(*peer, endpoint))
            t.peers.push_back(endpoint);
    }
    for (char **tracker = parts.trackers; *tracker; tracker++)
        t.trackers.emplace_back(*tracker);
    for (char **seed = parts.webseeds; *seed; seed++)
        t.webseeds.emplace_back(*seed);
    t.metadata_only = true;
    t.state = VIR_TORRENT_METADATA;
    return true;
}

static std::string
hex(char const *data, int len)
{
    std::string out;

    for (int i = 0; i < len; i++)
        out += format("%02x", static_cast<unsigned char>(data[i]));
    return out;
}

static std::string
keyV1(lt::info_hash_t const &hashes)
{
    return hashes.has_v1() ? "urn:btih:" + hex(hashes.v1.data(), 20) : std::string();
}

static std::string
keyOf(lt::info_hash_t const &hashes)
{
    if (hashes.has_v2())
        return "urn:btmh:1220" + hex(hashes.v2.data(), VIR_TORRENT_HASH_SIZE);
    return keyV1(hashes);
}

/* What was verified, from resume data; it also tells which torrent it is where
 * nothing else does. */
static bool
fromResume(Engine &e, Torrent &t, lt::add_torrent_params &params, GBytes *resume, GError **error)
{
    bool const alone = !params.ti && !t.metadata_only;
    gsize len;
    auto data = static_cast<char const *>(g_bytes_get_data(resume, &len));
    lt::error_code ec;
    lt::add_torrent_params saved = lt::read_resume_data({data, static_cast<std::ptrdiff_t>(len)}, ec);
    std::string const key = ec ? std::string() : keyOf(saved.info_hashes);

    if (key.empty() || (!alone && key != t.key && keyV1(saved.info_hashes) != t.key)) {
        if (!alone)
            return true;    /* as good as none */
        setError(error, VIR_TORRENT_ENGINE_ERROR_FAILED,
                 format(_("the resume data of '%s' is damaged"), t.id.c_str()));
        return false;
    }
    if (!params.ti && saved.ti) {
        auto const dict = saved.ti->info_section();
        g_auto(VirTorrentMetainfoRaw) raw = {};

        if (!e.identify(t, raw, dict.data(), static_cast<gsize>(dict.size()), error))
            return false;
        params.ti = saved.ti;
        t.metadata_only = false;
        t.state = VIR_TORRENT_CHECKING;
        t.tell_metadata = true;
    }
    if (alone) {
        t.key = key;
        params.info_hashes = saved.info_hashes;
        if (!params.ti) {
            t.metadata_only = true;
            t.state = VIR_TORRENT_METADATA;
        }
    }
    if (alone || t.trackers.empty()) {
        for (auto const &url : saved.trackers)
            t.trackers.push_back(url);
    }
    params.peers = saved.peers;
    params.merkle_trees = saved.merkle_trees;
    params.merkle_tree_mask = saved.merkle_tree_mask;
    params.verified_leaf_hashes = saved.verified_leaf_hashes;
    if (alone || t.webseeds.empty())
        t.webseeds = saved.url_seeds;
    if (!t.verify) {
        params.have_pieces = saved.have_pieces;
        params.unfinished_pieces = saved.unfinished_pieces;
    }
    return true;
}

/* What was verified after that, if only the process died since. */
static void
fromHave(Torrent const &t, lt::add_torrent_params &params)
{
    guint32 const pieces = static_cast<guint32>(params.have_pieces.size());
    g_autoptr(GArray) list = virTorrentHaveLoad(t.have.get(), pieces);

    for (guint i = 0; i < list->len; i++) {
        lt::piece_index_t const piece(static_cast<int>(g_array_index(list, guint32, i)));

        params.have_pieces.set_bit(piece);
        params.unfinished_pieces.erase(piece);
    }
}

extern "C" {

gboolean
virTorrentEngineAdd(VirTorrentEngine *e,
                    const char *id,
                    GBytes *metainfo,
                    const char *magnet,
                    GBytes *resume,
                    const char *dir,
                    const char *file,
                    VirTorrentAddFlags flags,
                    GError **error)
{
    if (!virTorrentAddCheck(id, metainfo, magnet, resume, dir, file, error))
        return FALSE;
    return guard(error, FALSE, [&]() -> gboolean {
        auto t = std::make_unique<Torrent>();
        lt::add_torrent_params params;

        t->id = id;
        t->dir = dir;
        t->file = file;
        t->seed = flags & VIR_TORRENT_ADD_SEED;
        t->verify = flags & VIR_TORRENT_ADD_CHECK;
        t->serial = ++e->serials;
        if ((metainfo && !fromMetainfo(*e, *t, params, metainfo, error)) ||
            (magnet && !fromMagnet(*t, params, magnet, error)))
            return FALSE;
        if (resume && !fromResume(*e, *t, params, resume, error))
            return FALSE;
        t->seed = t->seed && !t->metadata_only;
        if (!t->seed && !e->leaves.empty())
            t->have.reset(virTorrentHaveNew((e->leaves + "/" + id + ".have").c_str(),
                                            (t->dir + "/" + t->file).c_str(), t->key.c_str()),
                          virTorrentHaveFree);
        if (t->have && resume && !t->verify)
            fromHave(*t, params);
        for (auto const &it : e->torrents) {
            if (it.first != id && it.second->key != t->key)
                continue;
            setError(error, VIR_TORRENT_ENGINE_ERROR_EXISTS,
                     it.first == id ? format(_("'%s' is being looked after already"), id)
                                    : format(_("'%s' is the same torrent as '%s'"), id,
                                             it.first.c_str()));
            return FALSE;
        }
        try {
            e->start(*t, std::move(params));
        } catch (lt::system_error const &err) {
            setError(error, err.code() == lt::errors::duplicate_torrent
                            ? VIR_TORRENT_ENGINE_ERROR_EXISTS : VIR_TORRENT_ENGINE_ERROR_FAILED,
                     err.what());
            return FALSE;
        }
        e->torrents[id] = std::move(t);
        return TRUE;
    });
}

gboolean
virTorrentEngineRelocate(VirTorrentEngine *e,
                         const char *id,
                         const char *dir,
                         const char *file,
                         GError **error)
{
    return guard(error, FALSE, [&]() -> gboolean {
        Torrent *t = e->find(id);
        g_autofree char *path = g_build_filename(dir, file, nullptr);
        g_autofree char *old = nullptr;
        struct stat now, before;

        if (!t) {
            setError(error, VIR_TORRENT_ENGINE_ERROR_NOT_FOUND, format(_("there is no torrent '%s'"), id));
            return FALSE;
        }
        old = g_build_filename(t->dir.c_str(), t->file.c_str(), nullptr);
        /* libtorrent moves the file if it finds it at the old place: it is only
         * asked where there is nothing to move, or rename() of two links to one
         * file, which does nothing. */
        if (!t->handle.is_valid() || t->metadata_only ||
            lstat(path, &now) < 0 || !S_ISREG(now.st_mode) ||
            (lstat(old, &before) == 0 &&
             (before.st_dev != now.st_dev || before.st_ino != now.st_ino))) {
            setError(error, VIR_TORRENT_ENGINE_ERROR_FAILED,
                     format(_("'%s' is not at its new place"), id));
            return FALSE;
        }
        t->handle.rename_file(lt::file_index_t(0), path);
        t->dir = dir;
        t->file = file;
        return TRUE;
    });
}

void
virTorrentEngineRemove(VirTorrentEngine *e, const char *id)
{
    guard([&] {
        Torrent *t = e->find(id);

        if (!t)
            return;
        e->drop(*t);
        e->torrents.erase(id);
        virTorrentQueueRemove(e->queue_first, id);
        e->prioritize(g_get_monotonic_time());
    });
}

gboolean
virTorrentEngineGetStatus(VirTorrentEngine *e,
                          const char *id,
                          VirTorrentStatus *status)
{
    memset(status, 0, sizeof(*status));
    return guard(nullptr, FALSE, [&]() -> gboolean {
        Torrent *t = e->find(id);

        if (!t)
            return FALSE;
        status->state = t->state;
        status->downloaded = static_cast<guint64>(t->status.total_payload_download);
        status->uploaded = static_cast<guint64>(t->status.total_payload_upload);
        status->download_rate = static_cast<guint64>(t->status.download_payload_rate);
        status->upload_rate = static_cast<guint64>(t->status.upload_payload_rate);
        status->peers = static_cast<guint>(t->status.num_peers);
        status->place = virTorrentQueueGetPlace(e->queue_first, id);
        if (t->state == VIR_TORRENT_FAILED)
            status->error = t->error.c_str();
        if (!t->info)
            return TRUE;
        status->size = t->info->size;
        if (t->state == VIR_TORRENT_CHECKING)
            status->done = static_cast<guint64>(static_cast<double>(t->status.progress) *
                                                static_cast<double>(t->info->size));
        else
            status->done = verifiedBytes(*t);
        return TRUE;
    });
}

gboolean
virTorrentEngineGetMetainfo(VirTorrentEngine *e,
                            const char *id,
                            GBytes **metainfo,
                            VirTorrentMetainfo **info)
{
    return guard(nullptr, FALSE, [&]() -> gboolean {
        Torrent *t = e->find(id);

        if (!t || !t->info || t->metadata_only || t->tell_metadata || !e->learnMetainfo(*t))
            return FALSE;
        if (info)
            *info = virTorrentMetainfoParse(t->metainfo, nullptr);
        if (metainfo)
            *metainfo = g_bytes_ref(t->metainfo);
        return TRUE;
    });
}

gboolean
virTorrentEngineAddPeer(VirTorrentEngine *e,
                        const char *id,
                        const char *peer,
                        GError **error)
{
    return guard(error, FALSE, [&]() -> gboolean {
        Torrent *t = e->find(id);
        lt::tcp::endpoint endpoint;

        if (!t) {
            setError(error, VIR_TORRENT_ENGINE_ERROR_NOT_FOUND, format(_("there is no torrent '%s'"), id));
            return FALSE;
        }
        if (!parseEndpoint(peer, endpoint)) {
            setError(error, VIR_TORRENT_ENGINE_ERROR_INVALID_OPTION,
                     format(_("peer '%s' is not an address and a port"), peer));
            return FALSE;
        }
        t->peers.push_back(endpoint);
        if (t->handle.is_valid())
            t->handle.connect_peer(endpoint);
        return TRUE;
    });
}

void
virTorrentEnginePrioritize(VirTorrentEngine *e, const char *id)
{
    guard([&] {
        gint64 const now = g_get_monotonic_time();

        if (!e->find(id))
            return;
        virTorrentQueuePush(e->queue_first, id, now);
        e->prioritize(now);
    });
}

void
virTorrentEngineRequestResumeData(VirTorrentEngine *e)
{
    guard([&] {
        for (auto &it : e->torrents) {
            if (it.second->handle.is_valid())
                it.second->handle.save_resume_data(lt::torrent_handle::save_info_dict |
                                                   lt::torrent_handle::only_if_modified |
                                                   lt::torrent_handle::flush_disk_cache);
        }
    });
}

} /* extern "C" */
