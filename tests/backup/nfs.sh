#!/bin/bash
# The first process of a kernel of its own, which has an NFS server and client as this machine's may not: its files are this machine's,
# read-only, and everything that is written stays in its memory. Mounts its own export by each version and runs a test on it.
#
#   ceso.program=PATH   the program that has the test
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run/temporary
mount -t proc proc /proc
mount -t tmpfs none /run
mount -t tmpfs none /var/lib/nfs
mount -t sysfs none /sys
ip link set lo up
mkdir -p /run/temporary /run/rpcbind /run/export /run/mount /var/lib/nfs/{sm,sm.bak,v4recovery,rpc_pipefs}
touch /var/lib/nfs/{etab,rmtab,state}
mount -t tmpfs -o size=400M none /run/export
program=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^ceso\.program=//p')
modules=/usr/lib/uml/modules/$(uname -r)/kernel
for module in lib/oid_registry net/dns_resolver/dns_resolver net/sunrpc/sunrpc net/sunrpc/auth_gss/auth_rpcgss fs/nfs_common/grace \
    fs/nfs_common/nfs_acl fs/lockd/lockd fs/netfs/netfs fs/fscache/fscache fs/nfs/nfs fs/nfs/nfsv3 fs/nfs/nfsv4 fs/nfsd/nfsd; do
    insmod "$modules/$module.ko"
done
mount -t nfsd nfsd /proc/fs/nfsd
rpcbind -w
exportfs -o rw,no_root_squash,fsid=0,insecure,sync,no_subtree_check 127.0.0.1:/run/export
rpc.nfsd --no-udp 4
rpc.mountd
for version in 4.2 3; do
    from=/
    if [[ $version == 3 ]]; then from=/run/export; fi
    mount -t nfs -o "vers=$version,nolock,tcp,hard" "127.0.0.1:$from" /run/mount && stat -f -c "version $version is %T" /run/mount
    mkdir -p "/run/mount/by-$version"
    CESO_NFS=/run/mount/by-$version CESO_NFS_BENEATH=/run/export/by-$version "$program" --exact nfs::a_child_works_on_a_mount --ignored --nocapture
    echo "version $version ended with $?"
    umount /run/mount
done
echo o >/proc/sysrq-trigger
sleep 10
